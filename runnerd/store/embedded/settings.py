"""The server settings of the embedded cluster, as the text of its configuration file.

Written by `server` at each start, so that a new release brings its own. An operator overrides one with ALTER SYSTEM.
"""

from pathlib import Path

PORT = 5432
"""No port is opened: it is part of the socket's name."""

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "runnerd",
    "max_connections": "60",
    "shared_buffers": "64MB",
    # A ledger: what was committed survives a power cut.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # Bounds the disk it takes, and how long recovery reads after a kill.
    "max_wal_size": "256MB",
    # After a kill: one call for the file system instead of one for each of a thousand files (0.2 s instead of 0.5-3 s).
    # Before Linux 5.8 syncfs could hide a write error; the sandbox needs a newer kernel anyway.
    "recovery_init_sync_method": "syncfs",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # To our pipe, and from there into a file of bounded size.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
}
SINCE_18 = {
    # Three processes less; asynchronous reads bring nothing to a ledger that fits into memory.
    "io_method": "sync",
}


def render(cluster: Path, sockets: Path, major: int) -> str:
    """The configuration file: what initdb found out about this machine first, then what we want."""
    # A list of directories: double quotes keep a comma in a path from splitting it.
    directories = '"' + str(sockets).replace('"', '""') + '"'
    settings = SETTINGS | (SINCE_18 if major >= 18 else {}) | {"unix_socket_directories": directories}
    lines = [
        "# Written by runnerd at each start. Change a setting with ALTER SYSTEM instead.",
        f"include_if_exists {_quote(str(cluster / 'postgresql.conf'))}",
        *(f"{key} = {_quote(value)}" for key, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
