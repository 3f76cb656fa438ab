"""seccomp: what a plugin may ask of the kernel, and that everything else is refused and reported by name."""

import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyseccomp
import pytest

from protocol.attacks import ATTACKS
from protocol.zygote import Layer, SandboxPolicy
from tests.support.probes import DEADLINE_S, ProbeHost, outside, program
from workers.sandbox import seccomp
from workers.sandbox.syscalls import ALLOWED, SILENT, conditional

hostile = pytest.mark.hostile

WITHOUT_NAMESPACES: Final = SandboxPolicy(namespaces="off")

NEW_PROCESSES: Final = """
    import ctypes, os
    def fork():
        if os.fork() == 0:
            os._exit(0)
        os.wait()
    def execute():
        if ctypes.CDLL(None, use_errno=True).execl(b"/nowhere", b"", None) < 0:
            raise OSError(ctypes.get_errno(), "execl")
    attempt(fork)
    attempt(execute)
"""


@hostile
def test_no_new_process_and_no_new_program(host: ProbeHost) -> None:
    """No fork, no exec: what a worker is, it stays."""
    assert outside(NEW_PROCESSES) == ["done", "ENOENT"]
    outcome = host.run(NEW_PROCESSES)
    assert outcome.said == ["EPERM", "EPERM"]
    assert outcome.denied == ("clone", "execve")


@hostile
@pytest.mark.parametrize("policy", [SandboxPolicy(), WITHOUT_NAMESPACES], ids=["namespaces", "off"])
def test_no_signal_reaches_another_process(host: ProbeHost, policy: SandboxPolicy) -> None:
    """Not its parent, not a group, not everybody; not through the side doors either."""
    code = """
        import ctypes, fcntl, os, signal
        libc = ctypes.CDLL(None, use_errno=True)
        def queue():
            if libc.sigqueue(os.getppid(), 0, None) < 0:
                raise OSError(ctypes.get_errno(), "sigqueue")
        attempt(lambda: os.kill(os.getppid() or 2, 0))
        attempt(lambda: os.kill(-1, 0))
        attempt(lambda: os.kill(0, 0))
        attempt(queue)
        attempt(lambda: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()))
        attempt(lambda: os.kill(os.getpid(), 0))
    """
    assert outside(code) == ["done"] * 6
    outcome = host.run(code, sandbox=policy)
    assert outcome.said == ["EPERM"] * 5 + ["done"]
    assert outcome.denied == ("kill", "kill", "kill", "rt_sigqueueinfo", "fcntl")


DEADLY_DOORS: Final[Mapping[str, str]] = {
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "process_vm_readv": "libc.process_vm_readv(os.getpid(), 0, 0, 0, 0, 0)",
    "bpf": f"libc.syscall({321 if platform.machine() == 'x86_64' else 280}, 0, 0, 0)",
    "mount": "libc.mount(0, 0, 0, 0, 0)",
    "userfaultfd": f"libc.syscall({323 if platform.machine() == 'x86_64' else 282}, 1)",
    "keyctl": f"libc.syscall({250 if platform.machine() == 'x86_64' else 219}, 0, 0)",
    "setns": "libc.setns(0, 0)",
    "pidfd_getfd": "libc.syscall(438, 0, 0, 0)",
    "open_by_handle_at": "libc.open_by_handle_at(0, 0, 0)",
    "chroot": "libc.chroot(b'/nowhere')",
}
KERNEL_DOORS: Final[Mapping[str, str]] = {
    "pidfd_open": "libc.syscall(434, os.getpid(), 0)",
    "io_uring_setup": "libc.syscall(425, 1, 0)",
    "unshare": "libc.unshare(0)",
    "memfd_create": "libc.memfd_create(b'x', 0)",
    "perf_event_open": f"libc.syscall({298 if platform.machine() == 'x86_64' else 241}, 0, 0, 0, 0, 0)",
    "prctl": "libc.prctl(1, 0, 0, 0, 0)",  # PR_SET_PDEATHSIG: live on when the zygote is gone
    "setsockopt": "libc.setsockopt(0, 1, 26, 0, 0)",  # SO_ATTACH_FILTER
}


@hostile
def test_attacks_on_the_kernel_are_refused_by_name(host: ProbeHost) -> None:
    """None of these can be called. Outside they reach the kernel and fail in their own ways, or not at all."""
    code = _knock(*KERNEL_DOORS.values())
    assert {"done", "EFAULT", "ENOTSOCK"} & set(outside(code))
    outcome = host.run(code)
    assert outcome.said == ["EPERM"] * len(KERNEL_DOORS), outcome.stderr
    assert outcome.denied == tuple(KERNEL_DOORS)


@hostile
def test_calls_that_mean_an_attack_end_the_worker_unanswered(host: ProbeHost) -> None:
    """Each in a worker of its own: killed, and known by name. Outside, the next line is reached."""
    assert len(outside(_knock(*DEADLY_DOORS.values()))) == len(DEADLY_DOORS)
    for name, call in DEADLY_DOORS.items():
        outcome = host.run(_knock(call))
        assert (outcome.said, outcome.attacks, outcome.exited.status) == ([], (name,), -signal.SIGKILL), name


@hostile
def test_without_a_listener_the_kernel_kills_for_an_attack() -> None:
    """Its name is lost then, but not the effect."""
    code = """
        import ctypes, errno, os
        from workers.sandbox import privileges, seccomp
        install = seccomp._install
        def busy(program, flags):
            if flags & seccomp._FLAG_NEW_LISTENER:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            return install(program, flags)
        seccomp._install = busy
        privileges.apply()
        seccomp.load(own_pid=os.getpid(), birth_fd=256)
        ctypes.CDLL(None).ptrace(0, 0, 0, 0)
        print("answered", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", program(code)], capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


def _knock(*calls: str) -> str:
    attempts = "\n".join(f"attempt(lambda: check({call}))" for call in calls)
    return f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
{attempts}
"""


@hostile
def test_shared_memory_that_no_limit_counts_is_refused(host: ProbeHost) -> None:
    """RLIMIT_DATA counts private memory only, so there is no other."""
    code = "import mmap; attempt(lambda: mmap.mmap(-1, 4096)); mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE); print('ok')"
    assert outside(code) == ["done", "ok"]
    assert host.run(code).said == ["EPERM", "ok"]


@hostile
def test_the_filter_binds_threads_that_were_there_before_it(host: ProbeHost) -> None:
    """ZeroMQ's threads start before the filter: without TSYNC they would stay free."""

    async def look() -> set[str]:
        running = await host.start(host.request("loop.run_forever()"))
        try:
            tasks = list(Path(f"/proc/{running.worker.pid}/task").iterdir())
            assert len(tasks) == 3
            lines = {line for task in tasks for line in (task / "status").read_text().splitlines()}
            return {line for line in lines if line.startswith(("Seccomp:", "NoNewPrivs:"))}
        finally:
            running.close()

    assert host.wait_for(look()) == {"Seccomp:\t2", "NoNewPrivs:\t1"}


@hostile
def test_threads_asyncio_and_files_need_nothing_that_is_denied(host: ProbeHost) -> None:
    """What an ordinary plugin does must not fill the operator's log with denials."""
    code = """
        import asyncio, concurrent.futures, platform, random, shutil, tempfile, threading, time
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            print(sum(pool.map(lambda n: n * n, range(100))))
        async def work():
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(asyncio.sleep(0.001))
            return await asyncio.to_thread(lambda: asyncio.run(asyncio.sleep(0, "nested")))
        print(loop.run_until_complete(work()))
        shutil.get_terminal_size(); platform.uname(); time.sleep(0.001); random.SystemRandom().random()
        timer = threading.Timer(0.001, print, ["timer"]); timer.start(); timer.join()
        try:
            tempfile.TemporaryFile()
        except FileNotFoundError:
            print("no place for files")
    """
    assert outside(code) == ["328350", "nested", "timer"]
    outcome = host.run(code)
    assert outcome.said == ["328350", "nested", "timer", "no place for files"], outcome.stderr
    assert outcome.denied == ()


@hostile
def test_without_a_listener_refused_calls_still_fail() -> None:
    """A container manager may hold the only listener the kernel takes: then the worker gets EPERM and no one a log."""
    code = """
        import os, socket
        from workers.sandbox import privileges, seccomp
        privileges.apply()
        first, _ = seccomp.load(own_pid=os.getpid(), birth_fd=256)  # as a container manager would
        os.close(first)
        attempt(lambda: socket.socket())
    """
    assert outside(code) == ["ENOSYS"], "nobody holds the notify fd: the kernel answers"
    nested = """
        import errno, os, socket
        from workers.sandbox import libc, privileges, seccomp
        privileges.apply()
        install = seccomp._install
        def busy(program, flags):
            if flags & seccomp._FLAG_NEW_LISTENER:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            return install(program, flags)
        seccomp._install = busy
        notify_fd, reports = seccomp.load(own_pid=os.getpid(), birth_fd=256)
        print(notify_fd, *(f"{report.layer}={report.is_applied}" for report in reports))
        attempt(lambda: socket.socket())
    """
    assert outside(nested) == ["None seccomp=True seccomp_notify=False", "EPERM"]


@hostile
def test_code_of_a_foreign_architecture_ends_the_process() -> None:
    """Its numbers mean other calls: 32-bit `int 0x80` would pass the list under a false name."""
    if platform.machine() != "x86_64":
        pytest.skip("int 0x80 is an x86 instruction")
    machine_code = "b8 14 00 00 00 cd 80 c3"  # mov eax, 20 (getpid); int 0x80; ret
    run_it = f"""
        import ctypes, mmap, os
        from workers.sandbox import privileges, seccomp
        code = mmap.mmap(-1, 4096, prot=7, flags=mmap.MAP_PRIVATE)
        code.write(bytes.fromhex("{machine_code}"))
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        if SANDBOXED:
            privileges.apply()
            seccomp.load(own_pid=os.getpid(), birth_fd=256)
        print(call() == os.getpid(), flush=True)
    """
    codes = {}
    for is_sandboxed in (False, True):
        text = program(run_it).replace("SANDBOXED", str(is_sandboxed))
        done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, timeout=DEADLINE_S, check=False)
        codes[is_sandboxed] = (done.returncode, done.stdout)
    assert codes == {False: (0, b"True\n"), True: (-31, b"")}, "SIGSYS"


@pytest.mark.parametrize("architecture", [pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64], ids=["x86_64", "aarch64"])
def test_the_filter_compiles_for_both_architectures(architecture: int) -> None:
    """Each program begins by looking at the architecture, and has both marks to fill in."""
    program = seccomp.compile_program(architecture=architecture)
    assert len(program) % 8 == 0
    assert architecture.to_bytes(4, sys.byteorder) in program
    filled = seccomp._fill_in(program, own_pid=1, birth_fd=256)
    assert len(filled) == len(program)
    assert filled != program
    assert seccomp._fill_in(filled, own_pid=2, birth_fd=3) == filled, "no mark is left"


def test_every_name_is_a_system_call_somewhere() -> None:
    """A misspelt name would be skipped silently."""
    names = {name for group in ALLOWED.values() for name in group} | set(SILENT)
    names |= ATTACKS
    names |= {rule.name for rule in conditional(own_pid=1, birth_fd=3)}
    architectures = (pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64)
    unknown = {name for name in names if all(pyseccomp.resolve_syscall(arch, name) < 0 for arch in architectures)}
    assert unknown == set()


def test_no_call_is_both_allowed_and_an_attack() -> None:
    """The kernel would take the rule that came first."""
    allowed = {name for group in ALLOWED.values() for name in group} | set(SILENT)
    assert not ATTACKS & (allowed | {rule.name for rule in conditional(own_pid=1, birth_fd=3)})


def test_a_worker_names_its_layers(host: ProbeHost) -> None:
    """The operator sees what holds each worker, and what is missing."""
    layers = {report.layer: report for report in host.run("").layers}
    assert set(layers) == set(Layer)
    off = {report.layer: report for report in host.run("", sandbox=WITHOUT_NAMESPACES).layers}
    assert not off[Layer.NAMESPACES].is_applied
    assert off[Layer.NAMESPACES].cost
    assert off[Layer.LANDLOCK].is_applied
