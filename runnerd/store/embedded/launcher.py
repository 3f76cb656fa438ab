"""Becomes the cluster's account, ties its life to runnerd's, and execs a PostgreSQL program.

Run as a file by `server`, never imported: it stands between fork and exec, where runnerd itself (threads, an event
loop) may run no Python. Standard library only. Arguments: PARENT_PID UID GID PROGRAM ARGUMENT…
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_CANNOT = 126


def main(argv: list[str]) -> None:
    """Exec the program, or exit with 126 and one line that says why not."""
    parent, uid, gid = (int(value) for value in argv[1:4])
    program = argv[4:]
    try:
        if uid != os.geteuid():
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        os.umask(0o077)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # After the change of user, which clears it. SIGQUIT is PostgreSQL's immediate shutdown: it loses nothing that
        # was committed, and is over in milliseconds where an orderly one may write for seconds.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The parent may have ended before the line above: then no signal will come.
        if os.getppid() != parent:
            raise OSError("runnerd has ended")
        os.execv(program[0], program)  # noqa: S606 - a shell here would be a process too many
    except OSError as error:
        print(f"cannot run {program[0]} as uid {uid}: {error}", file=sys.stderr)  # noqa: T201 - stderr is the channel
        sys.exit(EXIT_CANNOT)


if __name__ == "__main__":
    main(sys.argv)
