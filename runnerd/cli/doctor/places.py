"""The directories and sockets that runnerd needs, and whether it is running."""

import os
import stat
from pathlib import Path
from typing import Final

from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.config.check import MAX_SOCKET_PATH
from runnerd.config.model import Config
from runnerd.control.client import NotAllowed, NotRunning, ask
from runnerd.control.messages import ControlError
from runnerd.control.status_messages import GetStatus, Status

GENERATION_DIGITS: Final = 8
ASK_TIMEOUT_S: Final = 5.0


def examine_places(config: Config) -> list[Finding]:
    """Directories, the length of socket paths, the daemon."""
    return [
        _directory("data", config.data_dir),
        _directory("runtime", config.runtime_dir),
        _sockets(config),
    ]


def examine_daemon(control_socket: Path) -> list[Finding]:
    """Whether runnerd answers, and what it says of itself. Not running is no fault: doctor works without it."""
    try:
        status = ask(control_socket, GetStatus(), ASK_TIMEOUT_S)
    except NotAllowed as error:
        return [weak("runnerd", str(error), cost="what it says of itself is not known", remedy=error.advice)]
    except NotRunning as error:
        return [weak("runnerd", str(error), remedy="start it: systemctl start runnerd")]
    except ControlError as error:
        return [bad("runnerd", f"it does not answer: {error}", remedy="look at: journalctl -u runnerd")]
    if not isinstance(status, Status):
        return [bad("runnerd", "it answers in another way than this runnerctl knows", remedy="install one release")]
    if status.problems:
        text = f"pid {status.pid}, {status.health}; it lists {len(status.problems)} problems"
        return [weak("runnerd", text, remedy="see: runnerctl status")]
    return [good("runnerd", f"pid {status.pid}, {status.health}")]


def _directory(subject: str, path: Path) -> Finding:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _missing_directory(subject, path)
    except OSError as error:
        return bad(subject, f"{path}: {error.strerror}", remedy="check its owner and the mode of its parents")
    if not stat.S_ISDIR(status.st_mode):
        return bad(subject, f"{path} is not a directory", remedy=f"name another {subject}_dir")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return bad(subject, f"{path} can be written by others", remedy=f"run: chmod go-w {path}")
    if status.st_uid != os.geteuid():
        text = f"{path} belongs to uid {status.st_uid}, this is uid {os.geteuid()}"
        return weak(subject, text, cost="what is in it cannot be checked", remedy="run doctor as the user of runnerd")
    return good(subject, str(path))


def _missing_directory(subject: str, path: Path) -> Finding:
    parent = next(parent for parent in path.parents if parent.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        remedy = f"make {path} for the user of runnerd, or run doctor as that user"
        return weak(subject, f"{path} is not there, and {parent} cannot be written", remedy=remedy)
    return good(subject, f"{path} is made at the first start")


def _sockets(config: Config) -> Finding:
    """The longest paths of sockets against what the kernel takes."""
    longest = max(config.plugins, key=len, default="")
    link = config.runtime_dir / "links" / f"{longest}.{'9' * GENERATION_DIGITS}" / "link"
    lengths = {"runtime_dir": len(os.fsencode(link)), "control_socket": len(os.fsencode(config.control_socket))}
    key, length = max(lengths.items(), key=lambda item: item[1])
    if length > MAX_SOCKET_PATH:
        text = f"a socket path below {key} has {length} bytes, the kernel takes {MAX_SOCKET_PATH}"
        return bad("sockets", text, cost="no worker can be reached", remedy=f"choose a shorter {key}")
    return good("sockets", f"the longest path has {length} bytes of {MAX_SOCKET_PATH}")
