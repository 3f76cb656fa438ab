# mypy: disable-error-code="func-returns-value"
"""What hostile plugin code would try, one function each: returns when it succeeded, raises OSError when it was denied.

The same functions run twice: in a plugin of the real daemon, where all must be denied, and as
`python probes.py NAME TARGETS` in a plain process of the same user, where all must succeed. Only the standard library.
"""

import ctypes
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Targets: TypeAlias = dict[str, Any]
"""What there is to attack: paths, pids, a port. See `make_targets` in `conftest`."""

NEW_USER = 0x10000000
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
X86_64 = os.uname().machine == "x86_64"
NUMBERS = {
    "socket": (41, 198), "connect": (42, 203), "clone": (56, 220), "ptrace": (101, 117), "add_key": (248, 217),
    "unshare": (272, 97), "perf_event_open": (298, 241), "process_vm_readv": (310, 270), "memfd_create": (319, 279),
    "bpf": (321, 280), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "pidfd_getfd": (438, 438),
    "setns": (308, 268), "personality": (135, 92), "shmget": (29, 194),
}  # fmt: skip
"""System call numbers on x86_64 and aarch64: called raw, past every wrapper of libc."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt. `needs_root`: an ordinary user is refused outside the sandbox as well, so there is no control."""

    attempt: Callable[[Targets], object]
    needs_root: bool


PROBES: dict[str, Probe] = {}


def probe(*, needs_root: bool = False) -> Callable[[Callable[[Targets], object]], Callable[[Targets], object]]:
    """Put a function into the table."""

    def register(attempt: Callable[[Targets], object]) -> Callable[[Targets], object]:
        PROBES[attempt.__name__] = Probe(attempt, needs_root)
        return attempt

    return register


def raw(name: str, *arguments: int | bytes | None) -> int:
    """A system call by its number."""
    number = NUMBERS[name][0 if X86_64 else 1]
    passed = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *passed))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def checked(result: int) -> int:
    """What a libc function returned, or its errno as an OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# --- files -----------------------------------------------------------------------------------------------------------


@probe()
def read_the_keystore(targets: Targets) -> object:
    return Path(targets["keystore"]).read_bytes()


@probe()
def read_the_passphrase(targets: Targets) -> object:
    return Path(targets["passphrase"]).read_bytes()


@probe()
def read_the_configuration(targets: Targets) -> object:
    return Path(targets["config"]).read_bytes()


@probe()
def read_the_log(targets: Targets) -> object:
    return Path(targets["log"]).read_bytes()


@probe()
def read_another_plugins_code(targets: Targets) -> object:
    return Path(targets["other_code"]).read_bytes()


@probe()
def read_the_supervisors_code(targets: Targets) -> object:
    return Path(targets["supervisor_code"]).read_bytes()


@probe()
def read_the_users_of_the_host(targets: Targets) -> object:
    return Path("/etc/passwd").read_bytes()


@probe()
def list_the_data_directory(targets: Targets) -> object:
    return os.listdir(targets["data_dir"])  # noqa: PTH208


@probe()
def list_the_links_of_others(targets: Targets) -> object:
    return os.listdir(targets["links"])  # noqa: PTH208


@probe()
def write_a_file(targets: Targets) -> object:
    return Path(tempfile.mkstemp(dir=targets["scratch"])[1]).write_text("mine")


@probe()
def overwrite_a_file(targets: Targets) -> object:
    return Path(targets["file"]).write_text("mine")


@probe()
def truncate_a_file(targets: Targets) -> object:
    return os.truncate(targets["file"], 0)


@probe()
def remove_a_file(targets: Targets) -> object:
    # One of its own: the control must not take it from others.
    path = Path(targets["scratch"], targets["doomed"])
    return path.unlink()


@probe()
def change_the_mode_of_a_file(targets: Targets) -> object:
    return Path(targets["file"]).chmod(0o644)


@probe()
def make_a_symlink(targets: Targets) -> object:
    return Path(targets["scratch"], f"link-{os.getpid()}-{os.urandom(4).hex()}").symlink_to("/")


@probe()
def use_shared_memory_files(targets: Targets) -> object:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        return file.write(b"mine")


# --- processes: /proc ------------------------------------------------------------------------------------------------


@probe()
def list_processes(targets: Targets) -> object:
    return os.listdir("/proc")  # noqa: PTH208


@probe(needs_root=True)
def read_the_supervisors_environment(targets: Targets) -> object:
    return Path(f"/proc/{targets['supervisor']}/environ").read_bytes()


@probe(needs_root=True)
def read_the_supervisors_memory(targets: Targets) -> object:
    start = int(Path(f"/proc/{targets['supervisor']}/maps").read_text().split("-")[0], 16)
    with Path(f"/proc/{targets['supervisor']}/mem").open("rb", buffering=0) as memory:
        memory.seek(start)
        return memory.read(16)


@probe(needs_root=True)
def list_the_supervisors_descriptors(targets: Targets) -> object:
    return os.listdir(f"/proc/{targets['supervisor']}/fd")  # noqa: PTH208


@probe()
def read_a_neighbours_arguments(targets: Targets) -> object:
    return Path(f"/proc/{targets['victim']}/cmdline").read_bytes()


# --- network ---------------------------------------------------------------------------------------------------------


@probe()
def connect_over_tcp(targets: Targets) -> object:
    return socket.create_connection(("127.0.0.1", targets["port"]), 5).close()


@probe()
def send_a_datagram(targets: Targets) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"out", ("127.0.0.1", targets["port"]))


@probe()
def listen_on_tcp(targets: Targets) -> object:
    return socket.create_server(("127.0.0.1", 0)).close()


@probe(needs_root=True)
def open_a_raw_socket(targets: Targets) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@probe()
def open_a_netlink_socket(targets: Targets) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def _connect_unix(address: str) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        return connection.connect(address)


@probe()
def connect_to_postgresql(targets: Targets) -> object:
    return _connect_unix(targets["postgres_socket"])


@probe()
def connect_to_the_control_socket(targets: Targets) -> object:
    return _connect_unix(targets["control_socket"])


@probe()
def connect_to_another_workers_link(targets: Targets) -> object:
    return _connect_unix(targets["other_link"])


@probe()
def connect_to_an_abstract_socket(targets: Targets) -> object:
    return _connect_unix("\0" + targets["abstract"])


@probe()
def send_from_a_socketpair_to_a_path(targets: Targets) -> object:
    """A datagram socket needs no connect to reach another socket."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        return one.sendto(b"out", targets["datagram_socket"])


@probe()
def pass_a_descriptor_on(targets: Targets) -> object:
    one, other = socket.socketpair()
    with one, other:
        return socket.send_fds(one, [b"x"], [0])


@probe()
def open_a_socket_raw(targets: Targets) -> object:
    return os.close(raw("socket", socket.AF_INET, socket.SOCK_STREAM, 0))


@probe()
def connect_raw(targets: Targets) -> object:
    """On whatever socket it has: one of a pair is enough to ask."""
    one, other = socket.socketpair()
    with one, other:
        address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(targets["port"]), socket.inet_aton("127.0.0.1"))
        try:
            return raw("connect", one.fileno(), address, len(address))
        except OSError as error:
            if error.errno in TAKEN_SERIOUSLY:  # the kernel looked at it, and found the wrong kind of socket
                return error
            raise


TAKEN_SERIOUSLY = (22, 97, 106)
"""EINVAL, EAFNOSUPPORT, EISCONN."""


# --- programs and processes ------------------------------------------------------------------------------------------


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


@probe()
def trace_a_neighbour(targets: Targets) -> object:
    raw("ptrace", PTRACE_ATTACH, targets["victim"], 0, 0)
    os.waitpid(targets["victim"], 0x40000000)  # __WALL
    return raw("ptrace", PTRACE_DETACH, targets["victim"], 0, 0)


@probe()
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
    import resource

    return resource.prlimit(targets["victim"], resource.RLIMIT_CORE)


# --- privileges and kernel interfaces --------------------------------------------------------------------------------


@probe()
def set_the_user(targets: Targets) -> object:
    return os.setuid(os.getuid())


@probe(needs_root=True)
def become_another_user(targets: Targets) -> object:
    return os.setresuid(65_534, 65_534, 65_534)


@probe()
def raise_the_priority(targets: Targets) -> object:
    return os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))


@probe()
def choose_a_processor(targets: Targets) -> object:
    return os.sched_setaffinity(0, os.sched_getaffinity(0))


@probe()
def become_dumpable(targets: Targets) -> object:
    return checked(_libc.prctl(4, 1, 0, 0, 0))


@probe(needs_root=True)
def mount_a_filesystem(targets: Targets) -> object:
    where = targets["scratch"].encode()
    checked(_libc.mount(b"none", where, b"tmpfs", 0, None))
    return checked(_libc.umount2(where, 2))


@probe(needs_root=True)
def change_the_root(targets: Targets) -> object:
    return os.chroot("/")


@probe()
def enter_new_namespaces(targets: Targets) -> object:
    return raw("unshare", NEW_USER)


@probe(needs_root=True)
def join_a_namespace(targets: Targets) -> object:
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        return raw("setns", descriptor, 0)
    finally:
        os.close(descriptor)


@probe()
def set_up_io_uring(targets: Targets) -> object:
    return os.close(raw("io_uring_setup", 1, bytes(120)))


@probe(needs_root=True)
def load_bpf(targets: Targets) -> object:
    array_of_one = struct.pack("=IIII", 2, 4, 8, 1) + bytes(56)
    return os.close(raw("bpf", 0, array_of_one, len(array_of_one)))


@probe(needs_root=True)
def open_a_performance_event(targets: Targets) -> object:
    attributes = struct.pack("=IIQ", 1, 112, 0) + bytes(96)  # software, cpu clock
    return os.close(raw("perf_event_open", attributes, 0, -1, -1, 0))


@probe(needs_root=True)
def handle_page_faults(targets: Targets) -> object:
    return os.close(raw("userfaultfd", 0))


@probe()
def use_the_kernels_keyrings(targets: Targets) -> object:
    return raw("add_key", b"user", b"probe", b"x", 1, -2)  # the process keyring


@probe()
def change_the_personality(targets: Targets) -> object:
    return raw("personality", 0)


@probe()
def make_system_v_memory(targets: Targets) -> object:
    identifier = raw("shmget", 0, 4096, 0o1600)
    return checked(_libc.shmctl(identifier, 0, None))


@probe()
def make_anonymous_memory_that_is_shared(targets: Targets) -> object:
    """It would not count towards the memory limit."""
    return mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS).close()


@probe()
def make_a_pipe(targets: Targets) -> object:
    for descriptor in os.pipe():
        os.close(descriptor)
    return None


@probe()
def watch_a_file(targets: Targets) -> object:
    return os.close(checked(_libc.inotify_init1(0)))


@probe()
def lock_memory(targets: Targets) -> object:
    return checked(_libc.mlock(ctypes.create_string_buffer(8), 8))


@probe(needs_root=True)  # where kernel.dmesg_restrict is set, as on most hosts
def read_the_kernels_log(targets: Targets) -> object:
    return checked(_libc.klogctl(10, None, 0))


# --- not denied but ended --------------------------------------------------------------------------------------------


def call_the_kernel_as_i386(targets: Targets) -> object:
    """getpid by its number on i386, which on x86_64 is writev: a filter that looked at numbers alone would be lost."""
    code = bytes.fromhex("b814000000 cd80 c3")  # mov eax, 20; int 0x80; ret
    memory = mmap.mmap(
        -1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    )
    memory.write(code)
    called = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
    if called != os.getpid():
        raise OSError(-called, os.strerror(-called))
    return called


DEADLY = {"call_the_kernel_as_i386": Probe(call_the_kernel_as_i386, needs_root=False)}


def main() -> None:
    """The control: `python probes.py NAME TARGETS`, with the targets as JSON. The traceback says why it failed."""
    name, targets = sys.argv[1:]
    (PROBES | DEADLY)[name].attempt(json.loads(targets))


if __name__ == "__main__":
    main()
