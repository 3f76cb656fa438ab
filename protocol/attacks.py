"""System calls that mean an attack: the worker that makes one is killed before it is answered, its plugin quarantined.

Only what no library makes by accident. Everything else that the sandbox refuses is answered with an error, because an
author has to see it (`unshare`, `memfd_create`, `perf_event_open` and `io_uring_setup` are probed by ordinary code).
Read by `runnerd.supervisor.denials`, and by `workers.sandbox.seccomp` where nobody listens and the kernel has to kill.
"""

from typing import Final

ATTACKS: Final[frozenset[str]] = frozenset(
    {
        # other processes: their memory, their registers, their descriptors
        *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
        # the kernel's own code, and the tools of most of its exploits
        *("bpf", "userfaultfd", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"),
        # the tree of files from another side than Landlock's
        *("open_by_handle_at", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen"),
        *("fsconfig", "fsmount", "fspick", "mount_setattr"),
        # other namespaces, the kernel's keyrings, the whole host
        *("setns", "add_key", "request_key", "keyctl", "reboot", "swapon", "swapoff", "acct"),
    }
)
