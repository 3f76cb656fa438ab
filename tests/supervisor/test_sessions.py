"""A worker's session yields the CPU where the kernel shares it by session."""

import os
import subprocess
from pathlib import Path

import pytest

from runnerd.supervisor.sessions import yield_cpu_by_session


@pytest.mark.skipif(os.geteuid() != 0, reason="only a supervisor with CAP_SYS_ADMIN may")
@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not share by session")
def test_session_of_a_process_yields() -> None:
    """Its own session, and no other; a process that is gone is nobody's trouble."""
    ours = Path("/proc/self/autogroup").read_text()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 0\n")
        yield_cpu_by_session(process.pid)
        assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 19\n")
        process.kill()
    assert Path("/proc/self/autogroup").read_text() == ours
    yield_cpu_by_session(process.pid)
