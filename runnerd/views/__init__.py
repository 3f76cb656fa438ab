"""What others may see of a running daemon: its status, its routes, a call. Values; nothing is changed here."""
