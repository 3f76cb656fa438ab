"""A file with a secret, such as a passphrase or a token: is it there, plain, and not for every user? It is not read
here. Used by `wallets`, `signers` and `consumers`.
"""

import os
import stat
from pathlib import Path

from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.wallets.passphrase import CREDENTIALS_VARIABLE

NO_START = "runnerd does not start"


def examine_secret(what: str, path: Path) -> Finding:
    """Look at the file of the secret that is called `what`."""
    try:
        status = path.stat()
    except OSError as error:
        return bad(what, f"{path}: {error.strerror}", cost=NO_START, remedy="write it into that file, mode 0600")
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return bad(what, f"{path} is not a regular file", cost=NO_START, remedy="write it into a plain file")
    if mode & stat.S_IRWXO:
        remedy = f"run: chmod 600 {path}, and consider the {what} known"
        return bad(what, f"{path} has mode {mode:04o}: open to every user", cost=NO_START, remedy=remedy)
    if status.st_size == 0:
        return bad(what, f"{path} is empty", cost=NO_START, remedy=f"write the {what} into it")
    if mode & stat.S_IRWXG:
        cost = "its group can read it"
        return weak(what, f"{path} has mode {mode:04o}", cost=cost, remedy=f"run: chmod 600 {path}")
    return good(what, f"{path}, mode {mode:04o}")


def examine_credential(what: str, name: str) -> Finding:
    """The same for a systemd credential, which is a file only for the unit that gets it."""
    directory = os.environ.get(CREDENTIALS_VARIABLE)
    if not directory:
        cost = "cannot be checked outside of the unit"
        remedy = f"the unit needs LoadCredential={name}:/path/of/the/file"
        return weak(what, f"systemd credential {name}", cost=cost, remedy=remedy)
    return examine_secret(what, Path(directory, name))
