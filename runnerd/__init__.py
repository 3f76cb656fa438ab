"""The trusted side: supervisor, executor, store and everything that touches the key."""
