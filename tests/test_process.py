"""What a process of ours does to itself, in a process of the test's own: it cannot be undone."""

import resource
import subprocess
import sys

LOW = 64


def in_a_process(code: str) -> str:
    """What `code` prints, in a new interpreter with few descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    start = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({LOW}, {hard})); "
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def test_descriptors_are_as_many_as_we_may_have() -> None:
    """Outside systemd the soft limit is that of a shell; the control is a process that does not raise it."""
    show = "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert in_a_process(show) == f"({LOW}, {hard})"
    raised = in_a_process(f"from runnerd.process import raise_file_limit; raise_file_limit(); {show}")
    assert raised == f"({hard}, {hard})"
