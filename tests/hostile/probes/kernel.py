# mypy: disable-error-code="func-returns-value"
"""The kernel's other doors: privileges, namespaces, rings, keys, filesystems, foreign system calls."""

import ctypes
import errno
import mmap
import os
import socket
import struct

from tests.hostile.probes.table import X86_64, Targets, checked, libc, probe, raw, run_machine_code

NEW_USER = 0x10000000
AT_FDCWD = -100
ENOKEY = 126


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
    return checked(libc.prctl(4, 1, 0, 0, 0))


@probe(needs_root=True, attack="mount")
def mount_a_filesystem(targets: Targets) -> object:
    where = targets["scratch"].encode()
    checked(libc.mount(b"none", where, b"tmpfs", 0, None))
    return checked(libc.umount2(where, 2))


@probe(needs_root=True, attack="chroot")
def change_the_root(targets: Targets) -> object:
    return os.chroot("/")


@probe()
def enter_new_namespaces(targets: Targets) -> object:
    return raw("unshare", NEW_USER)


@probe(needs_root=True, attack="setns")
def join_a_namespace(targets: Targets) -> object:
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        return raw("setns", descriptor, 0)
    finally:
        os.close(descriptor)


@probe()
def set_up_io_uring(targets: Targets) -> object:
    return os.close(raw("io_uring_setup", 1, bytes(120)))


@probe(needs_root=True, attack="bpf")
def load_bpf(targets: Targets) -> object:
    array_of_one = struct.pack("=IIII", 2, 4, 8, 1) + bytes(56)
    return os.close(raw("bpf", 0, array_of_one, len(array_of_one)))


@probe(needs_root=True)
def open_a_performance_event(targets: Targets) -> object:
    attributes = struct.pack("=IIQ", 1, 112, 0) + bytes(96)  # software, cpu clock
    return os.close(raw("perf_event_open", attributes, 0, -1, -1, 0))


@probe(needs_root=True, attack="userfaultfd")
def handle_page_faults(targets: Targets) -> object:
    return os.close(raw("userfaultfd", 0))


@probe(attack="add_key")
def use_the_kernels_keyrings(targets: Targets) -> object:
    return raw("add_key", b"user", b"probe", b"x", 1, -2)  # the process keyring


@probe()
def change_the_personality(targets: Targets) -> object:
    return raw("personality", 0)


@probe()
def make_system_v_memory(targets: Targets) -> object:
    identifier = raw("shmget", 0, 4096, 0o1600)
    return checked(libc.shmctl(identifier, 0, None))


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
    return os.close(checked(libc.inotify_init1(0)))


@probe()
def lock_memory(targets: Targets) -> object:
    return checked(libc.mlock(ctypes.create_string_buffer(8), 8))


@probe(needs_root=True)  # where kernel.dmesg_restrict is set, as on most hosts
def read_the_kernels_log(targets: Targets) -> object:
    return checked(libc.klogctl(10, None, 0))


@probe(attack="keyctl")
def read_a_keyring(targets: Targets) -> object:
    return raw("keyctl", 0, -2, 1)  # KEYCTL_GET_KEYRING_ID of the process keyring, made if there is none


@probe(attack="request_key")
def ask_for_a_key(targets: Targets) -> object:
    try:
        return raw("request_key", b"user", b"runnerd-test", None, 0)
    except OSError as error:
        if error.errno == ENOKEY:  # looked for
            return error
        raise


@probe()
def name_a_file_by_its_handle(targets: Targets) -> object:
    handle, mount = bytearray(struct.pack("=Ii", 128, 0) + bytes(128)), bytearray(8)
    rooms = [(ctypes.c_char * len(room)).from_buffer(room) for room in (handle, mount)]
    return raw("name_to_handle_at", AT_FDCWD, b"/", ctypes.addressof(rooms[0]), ctypes.addressof(rooms[1]), 0)


@probe(needs_root=True, attack="open_by_handle_at")
def open_a_file_by_its_handle(targets: Targets) -> object:
    """Past every path. The handle is a made-up one: who may not even ask is told so, who may hears that it is stale."""
    try:
        return os.close(raw("open_by_handle_at", AT_FDCWD, struct.pack("=Ii", 8, 1) + bytes(8), os.O_RDONLY))
    except OSError as error:
        if error.errno == errno.ESTALE:
            return error
        raise


@probe(attack="open_tree")
def open_a_tree(targets: Targets) -> object:
    return os.close(raw("open_tree", AT_FDCWD, b"/", 0))


@probe(needs_root=True, attack="fsopen")
def make_a_filesystem(targets: Targets) -> object:
    return os.close(raw("fsopen", b"tmpfs", 0))


@probe(needs_root=True)
def name_the_host(targets: Targets) -> object:
    return socket.sethostname(socket.gethostname())


@probe(is_there=X86_64, attack="SIGSYS", is_offered_by_some=True)
def call_the_kernel_as_i386(targets: Targets) -> object:
    """getpid by its number on i386, which on x86_64 is writev: a filter that looked at numbers alone would be lost."""
    called = run_machine_code("b814000000 cd80 c3")  # mov eax, 20; int 0x80; ret
    if called != os.getpid():
        raise OSError(-called, os.strerror(-called))
    return called


@probe(is_there=X86_64, attack="SIGSYS", is_offered_by_some=True)
def call_the_kernel_as_x32(targets: Targets) -> object:
    """getpid again: the numbers of x32 begin at 2**30, and few kernels have them."""
    return checked(int(libc.syscall(ctypes.c_long(0x4000_0000 | 39))))
