"""The trusted side: supervisor, executor, store and everything that touches the key."""

__version__ = "0.1.0"
"""Also what the package is built with; asking the installed metadata would cost every command 40 ms."""
