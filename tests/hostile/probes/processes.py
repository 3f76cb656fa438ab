# mypy: disable-error-code="func-returns-value"
"""Processes: new ones, other ones, and what a process may do to its own standing."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
from pathlib import Path

from tests.hostile.probes.table import X86_64, Targets, checked, in_vain, libc, probe, raw, run_machine_code

PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SEIZE = 0, 16, 17, 0x4206
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, PR_SET_PTRACER = 1, 3, 39, 0x59616D61
AT_EMPTY_PATH = 0x1000
SCHED_IDLE = 5
LEAST = 19


@probe()
def start_a_program(targets: Targets) -> object:
    return subprocess.run(["/bin/true"], check=True)


@probe()
def spawn_a_program(targets: Targets) -> object:
    return os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


@probe()
def fork_a_process(targets: Targets) -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)


@probe()
def fork_raw(targets: Targets) -> object:
    child = raw("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)


@probe()
def execute_memory(targets: Targets) -> object:
    """A program that was never a file."""
    descriptor = raw("memfd_create", b"program", 0)
    try:
        with Path("/bin/true").open("rb") as program:
            os.write(descriptor, program.read())
        return os.waitpid(os.posix_spawn(f"/proc/self/fd/{descriptor}", ["true"], {}), 0)
    finally:
        os.close(descriptor)


@probe()
def signal_a_neighbour(targets: Targets) -> object:
    return os.kill(targets["victim"], signal.SIGCONT)


@probe()
def signal_the_supervisor(targets: Targets) -> object:
    return os.kill(targets["supervisor"], 0)


@probe()
def signal_the_process_group(targets: Targets) -> object:
    return os.killpg(os.getpgid(0), 0)


@probe()
def signal_through_a_pidfd(targets: Targets) -> object:
    descriptor = os.pidfd_open(targets["victim"])
    try:
        return signal.pidfd_send_signal(descriptor, signal.SIGCONT)
    finally:
        os.close(descriptor)


@probe(attack="ptrace")
def trace_a_neighbour(targets: Targets) -> object:
    raw("ptrace", PTRACE_ATTACH, targets["victim"], 0, 0)
    os.waitpid(targets["victim"], 0x40000000)  # __WALL
    return raw("ptrace", PTRACE_DETACH, targets["victim"], 0, 0)


@probe(attack="process_vm_readv")
def read_a_neighbours_memory(targets: Targets) -> object:
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("=QQ", ctypes.addressof(buffer), 8)
    remote = struct.pack("=QQ", targets["victim_address"], 8)
    return raw("process_vm_readv", targets["victim"], local, 1, remote, 1, 0)


@probe()
def steal_a_neighbours_descriptor(targets: Targets) -> object:
    descriptor = os.pidfd_open(targets["victim"])
    try:
        return os.close(raw("pidfd_getfd", descriptor, 0, 0))
    finally:
        os.close(descriptor)


@probe()
def limit_a_neighbour(targets: Targets) -> object:
    return resource.prlimit(targets["victim"], resource.RLIMIT_CORE)


@probe(denials=(errno.ENOSYS,))
def fork_by_clone3(targets: Targets) -> object:
    """Its flags are in memory, where no filter sees them: refused as unknown, so that glibc takes clone."""
    child = raw("clone3", struct.pack("=11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0), 88)
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)


@probe(is_there=X86_64)
def vfork_a_process(targets: Targets) -> object:
    """In machine code: the child shares its parent's stack, so it must exit before it returns."""
    # mov eax, 58; syscall; test eax, eax; jnz end; xor edi, edi; mov eax, 60; syscall; end: ret
    child = run_machine_code("b83a000000 0f05 85c0 7509 31ff b83c000000 0f05 c3")
    if child < 0:
        raise OSError(-child, os.strerror(-child))
    return os.waitpid(child, 0)


@probe()
def become_a_program(targets: Targets) -> object:
    return raw("execve", b"/bin/true", None, None)


@probe()
def become_a_program_in_memory(targets: Targets) -> object:
    """Without a path at any time."""
    descriptor = raw("memfd_create", b"program", 0)
    with Path("/bin/true").open("rb") as program:
        os.write(descriptor, program.read())
    return raw("execveat", descriptor, b"", None, None, AT_EMPTY_PATH)


@probe()
def become_a_descriptor(targets: Targets) -> object:
    """Of the one file that is certainly open; outside the kernel looks at it, and finds no program."""
    try:
        return raw("execveat", 0, b"", None, None, AT_EMPTY_PATH)
    except OSError as error:
        if error.errno == errno.EACCES:
            return error
        raise


@probe(attack="process_vm_writev")
def write_to_a_neighbours_memory(targets: Targets) -> object:
    buffer = ctypes.create_string_buffer(b"1234567")
    local = struct.pack("=QQ", ctypes.addressof(buffer), 8)
    remote = struct.pack("=QQ", targets["victim_address"], 8)
    return raw("process_vm_writev", targets["victim"], local, 1, remote, 1, 0)


@probe(attack="ptrace")
def be_traced(targets: Targets) -> object:
    return raw("ptrace", PTRACE_TRACEME, 0, 0, 0)


@probe(attack="ptrace")
def seize_a_neighbour(targets: Targets) -> object:
    return raw("ptrace", PTRACE_SEIZE, targets["victim"], 0, 0)


@probe()
def signal_everybody(targets: Targets) -> object:
    return os.kill(-1, 0)


@probe()
def queue_a_signal(targets: Targets) -> object:
    return raw("rt_sigqueueinfo", targets["victim"], 0, struct.pack("=iii", 0, 0, -1) + bytes(116))


@probe()
def have_the_kernel_signal_a_neighbour(targets: Targets) -> object:
    one, other = socket.socketpair()
    with one, other:
        return fcntl.fcntl(one, fcntl.F_SETOWN, targets["victim"])


@probe()
def choose_a_scheduler(targets: Targets) -> object:
    """Answered with 0, for ZeroMQ's sake, and not carried out."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if os.sched_getscheduler(0) != os.SCHED_BATCH:
        raise in_vain("the policy is still what it was")
    return None


@probe()
def choose_a_scheduler_with_attributes(targets: Targets) -> object:
    return raw("sched_setattr", 0, struct.pack("=IIQiIQQQ", 48, os.SCHED_BATCH, 0, 0, 0, 0, 0, 0), 0)


@probe()
def choose_a_place_at_the_disk(targets: Targets) -> object:
    return raw("ioprio_set", 1, 0, 2 << 13 | 4)


@probe()
def outlive_its_parent(targets: Targets) -> object:
    return checked(libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0))


@probe(is_offered_by_some=True)
def allow_a_debugger(targets: Targets) -> object:
    return checked(libc.prctl(PR_SET_PTRACER, -1, 0, 0, 0))


@probe()
def ask_for_a_core_file(targets: Targets) -> object:
    limits = struct.pack("=QQ", *(resource.getrlimit(resource.RLIMIT_CORE)[1] & (1 << 64) - 1,) * 2)
    return checked(libc.setrlimit(resource.RLIMIT_CORE, limits))


@probe(layer="privileges")
def gain_by_exec(targets: Targets) -> object:
    """A set-uid program would run with more rights than its caller."""
    if checked(libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)) == 1:
        raise in_vain("no program gives it any")
    return None


@probe(layer="privileges")
def be_dumped(targets: Targets) -> object:
    """Into a core file, or to a debugger of the same user."""
    if checked(libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)) == 0:
        raise in_vain("it is not dumpable")
    return None


@probe(layer="rlimits")
def compete_for_processor_time(targets: Targets) -> object:
    if os.sched_getscheduler(0) == SCHED_IDLE or os.getpriority(os.PRIO_PROCESS, 0) == LEAST:
        raise in_vain("it gets what nobody else wants")
    return None


# --- where a process is: by itself alone -----------------------------------------------------------------------------


def _share(kind: str, targets: Targets) -> object:
    own = str(Path(f"/proc/self/ns/{kind}").readlink())
    if own != targets["namespaces"][kind]:
        raise in_vain(f"it is in {own}")
    return own


@probe(layer="namespaces")
def share_the_hosts_network(targets: Targets) -> object:
    return _share("net", targets)


@probe(layer="namespaces")
def share_the_hosts_processes(targets: Targets) -> object:
    return _share("pid", targets)


@probe(layer="namespaces")
def share_the_hosts_ipc(targets: Targets) -> object:
    return _share("ipc", targets)


@probe(layer="namespaces")
def share_the_hosts_users(targets: Targets) -> object:
    return _share("user", targets)


@probe(layer="namespaces")
def see_its_parent(targets: Targets) -> object:
    if (os.getpid(), os.getppid()) == (1, 0):
        raise in_vain("it is the first process of its world")
    return os.getppid()
