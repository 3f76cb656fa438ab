"""Where a configuration's control socket is, without looking at the rest of it.

A broken plugin entry must not keep an operator from `runnerctl status`, so nothing else is decoded or checked here.
The defaults are those of `load`.
"""

import tomllib
from pathlib import Path

from runnerd.errors import RunnerdError


class SocketNotFound(RunnerdError):
    """The file does not say where the control socket is. Mend it, name another with --config, or give --socket."""

    def __init__(self, file: Path, problem: str) -> None:
        self.file = file
        self.problem = problem
        super().__init__(f"{file}: {problem}")


def why_unreadable(file: Path, error: OSError) -> str:
    """The system's reason, and for a file that this user may not read: who may."""
    reason = f"cannot be read: {error.strerror}"
    if not isinstance(error, PermissionError):
        return reason
    try:
        whose = f"it belongs to {file.owner()}, group {file.group()}"
    except (OSError, KeyError):  # a directory above is closed as well, or nobody has that number
        whose = "it is not for everybody"
    return f"{reason}: {whose}; run this as a user who may read it, such as that of runnerd, or with sudo"


def control_socket_of(file: Path) -> Path:
    """The control socket that `file` names, or the default in its data directory. Raises SocketNotFound."""
    file = file.absolute()
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SocketNotFound(file, why_unreadable(file, error)) from error
    except UnicodeDecodeError as error:
        raise SocketNotFound(file, "is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SocketNotFound(file, f"is not valid TOML: {error}") from error
    for key in ("control_socket", "data_dir"):
        value = raw.get(key)
        if value is not None and not isinstance(value, str):
            raise SocketNotFound(file, f"{key}: must be a path, written as text")
    if "control_socket" in raw:
        return file.parent / str(raw["control_socket"])
    if "data_dir" in raw:
        return file.parent / str(raw["data_dir"]) / "control.sock"
    raise SocketNotFound(file, "data_dir: is missing; it must name the directory that runnerd may write")
