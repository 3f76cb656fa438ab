"""What a process of ours does to itself, in a process of the test's own: it cannot be undone."""

import resource
import subprocess
import sys
from pathlib import Path

from tests.cli.configs import write_config

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


def test_memory_is_neither_dumped_nor_read_by_others() -> None:
    """No core file, and not dumpable; the control is the same process before."""
    show = "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    code = f"import ctypes; from runnerd.process import protect_memory; {show}; protect_memory(); {show}"
    before, after = in_a_process(code).splitlines()
    assert before.endswith(" 1")
    assert after == "(0, 0) 0"


BOMB = """
import sys
from runnerd.chain.errors import RpcMalformed
from runnerd.chain.jsonrpc import decode_answer
from runnerd.process import bound_recursion
import eth_keyfile
print(sys.getrecursionlimit())
bound_recursion()
try: decode_answer(b"[" * 200_000, 1, "m")
except RpcMalformed: print(sys.getrecursionlimit(), "refused")
"""

START = """
import sys
from runnerd.cli.daemon import main
import eth_keyfile  # after all of ours
print(sys.getrecursionlimit())
try: main(["--config", sys.argv[1]])
except SystemExit as ended: print(sys.getrecursionlimit(), ended.code)
"""


def test_json_from_a_node_does_not_end_the_process_whatever_was_imported() -> None:
    """py_ecc, below eth_keyfile, raises the limit to 100,000: JSON that is nested deeply is then a SIGSEGV."""
    assert in_a_process(BOMB) == "100000\n1000 refused"


def test_daemon_bounds_recursion_at_its_start_after_all_imports(tmp_path: Path) -> None:
    """An import would silently undo what an earlier import has done. It ends here since its directory is a file."""
    config = write_config(tmp_path)
    (tmp_path / "data").touch()
    command = [sys.executable, "-c", START, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "100000\n1000 1\n", done.stderr
