"""What a worker is as a process: its name, environment, privileges and limits, and how it dies."""

import resource
import signal
from pathlib import Path

import pytest

from protocol.zygote import MIB, Layer, SandboxPolicy, WorkerLimits
from runnerd.supervisor.zygote import BirthRefused
from tests.support.probes import ProbeHost, outside
from workers.inherited import ENVIRONMENT
from workers.sandbox import layers
from workers.sandbox.errors import SandboxRefusedError

pytestmark = pytest.mark.hostile


def test_the_environment_is_the_workers_own(host: ProbeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL, tokens and passphrases live in environments: nothing of the host's arrives, in Python or in C."""
    monkeypatch.setenv("PASSPHRASE", "hunter2")
    code = f"""
        import ctypes, os
        print(dict(os.environ) == {ENVIRONMENT!r})
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_char_p
        print(getenv(b"PASSPHRASE"))
    """
    assert outside(code) == ["False", "b'hunter2'"]
    assert host.run(code).said == ["True", "None"]


def test_the_process_can_be_recognised_and_has_no_privileges(host: ProbeHost) -> None:
    """`ps` shows whose it is; the kernel shows that it can gain nothing."""

    async def look() -> tuple[str, dict[str, str], str]:
        running = await host.start(host.request("loop.run_forever()"))
        proc = Path(f"/proc/{running.worker.pid}")
        try:
            status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
            return (proc / "cmdline").read_text(), status, (proc / "oom_score_adj").read_text().strip()
        finally:
            running.close()

    title, status, oom_score = host.wait_for(look())
    assert title.rstrip("\0").startswith("worker: alpha #")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["NSpid"].split()[-1] == "1", "pid 1 of a namespace of its own"
    assert status["NSpgid"].split()[-1] == "1", "a process group of its own"
    assert status["NSsid"].split()[-1] == "0", "in the zygote's session, which yields the CPU"
    assert status["Umask"] == "0077"
    assert oom_score == "1000"


def test_memory_beyond_the_limit_is_refused_to_the_plugin_alone(host: ProbeHost) -> None:
    """A leak ends in MemoryError inside the worker, not on the host."""
    code = """
        try:
            print(len(bytearray(256 << 20)))
        except MemoryError:
            print("MemoryError")
    """
    assert outside(code) == [str(256 * MIB)]
    assert host.run(code, limits=WorkerLimits(memory_bytes=512 * MIB)).said == [str(256 * MIB)]
    assert host.run(code, limits=WorkerLimits(memory_bytes=128 * MIB)).said == ["MemoryError"]


def test_descriptors_are_limited(host: ProbeHost) -> None:
    """One worker cannot use up the descriptors of the host."""
    code = """
        import os
        def take(count):
            for _ in range(count):
                os.dup(0)
        attempt(lambda: take(40))
    """
    assert outside(code) == ["done"]
    assert host.run(code, limits=WorkerLimits(max_fds=128)).said == ["done"]
    assert host.run(code, limits=WorkerLimits(max_fds=32)).said == ["EMFILE"]


def test_the_limits_are_what_was_asked_for(host: ProbeHost) -> None:
    """Hard limits, so that the plugin cannot raise them; threads are counted in the worker's own user namespace."""
    names = ("DATA", "NOFILE", "NPROC", "CORE", "FSIZE", "MEMLOCK")
    code = f"import resource\nfor name in {names}: print(*resource.getrlimit(getattr(resource, 'RLIMIT_' + name)))"
    said = host.run(code, limits=WorkerLimits(memory_bytes=100 * MIB, max_fds=77, max_threads=33)).said
    assert said == [f"{value} {value}" for value in (100 * MIB, 77, 33, 0, 0, 0)]
    per_user = resource.getrlimit(resource.RLIMIT_NPROC)
    off = host.run(code, limits=WorkerLimits(max_threads=33), sandbox=SandboxPolicy(namespaces="off")).said
    assert off[2] == f"{per_user[0]} {per_user[1]}", "without a namespace it would count everybody's threads"


@pytest.mark.parametrize("policy", [SandboxPolicy(), SandboxPolicy(namespaces="off")], ids=["namespaces", "off"])
def test_sigabrt_writes_the_stacks_and_ends_the_worker(host: ProbeHost, policy: SandboxPolicy) -> None:
    """The supervisor's first question to a worker that hangs: where? Also when it hangs in C, and in every thread."""
    code = """
        import threading, time
        def in_a_thread():
            time.sleep(60)
        threading.Thread(target=in_a_thread, daemon=True).start()
        def hang():
            print("hanging", flush=True)
            sum(range(10**12))
        hang()
    """

    async def abort() -> tuple[str, int]:
        running = await host.start(host.request(code, sandbox=policy))
        try:
            assert await running.line() == "hanging"
            running.worker.kill(signal.SIGABRT)
            outcome = await running.finish()
            return outcome.stderr, outcome.exited.status
        finally:
            running.close()

    stderr, status = host.wait_for(abort())
    assert "Fatal Python error: Aborted" in stderr
    assert "in hang" in stderr
    assert "in in_a_thread" in stderr
    assert status == signal.SIGABRT, "exit code 6: a pid 1 cannot be ended by a signal it sends to itself"


def test_sigterm_ends_a_worker_that_did_not_ask_for_it(host: ProbeHost) -> None:
    """Signals with the default action do not reach pid 1 of a namespace; this one must."""

    async def end() -> int:
        running = await host.start(host.request("print('up', flush=True); loop.run_forever()"))
        try:
            assert await running.line() == "up"
            running.worker.kill(signal.SIGTERM)
            return (await running.finish()).exited.status
        finally:
            running.close()

    assert host.wait_for(end()) == signal.SIGTERM


def test_an_exception_and_a_fault_are_told_apart(host: ProbeHost) -> None:
    """A traceback and exit code 1, or the signal and faulthandler's stack."""
    raised = host.run("raise RuntimeError('boom')")
    assert raised.exited.describe() == "exit code 1"
    assert "RuntimeError: boom" in raised.stderr
    crashed = host.run("import ctypes; ctypes.string_at(0)")
    assert crashed.exited.describe() == "killed by SIGSEGV"
    assert "Segmentation fault" in crashed.stderr


def test_a_thread_left_behind_does_not_keep_the_worker(host: ProbeHost) -> None:
    """When its loop is done a worker is done, whatever the plugin has started."""
    code = "import threading; threading.Thread(target=threading.Event().wait).start(); print('over')"
    outcome = host.run(code)
    assert (outcome.said, outcome.exited.status) == (["over"], 0)


def test_a_missing_layer_of_the_floor_refuses_with_advice() -> None:
    """Fail closed: the operator reads what is missing and how to get it."""
    reports = [layers.missing(Layer.LANDLOCK, "no Landlock in this kernel")]
    with pytest.raises(SandboxRefusedError, match="rlimits") as refused:
        layers.validate(reports, SandboxPolicy())
    assert "to have it" in refused.value.reason
    assert set(layers.COST) == set(layers.REMEDY) == set(Layer)


def test_a_required_layer_that_is_off_refuses_the_birth(host: ProbeHost) -> None:
    """An operator who requires more than the floor gets it, or no worker."""
    policy = SandboxPolicy(namespaces="off", require=(Layer.NAMESPACES,))
    with pytest.raises(BirthRefused, match="switched off") as refused:
        host.run("", sandbox=policy)
    assert refused.value.layer == Layer.NAMESPACES
