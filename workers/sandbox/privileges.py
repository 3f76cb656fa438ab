"""Gives up every privilege for good: no capabilities, no way to gain any through exec, no core, no debugger.

A fresh user namespace hands its first process all capabilities *in* that namespace: they go as well.
"""

from protocol.zygote import Layer, LayerReport
from workers.sandbox import libc


def apply() -> LayerReport:
    """Bind the calling thread: call it before the first other thread starts. Raises OSError."""
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.drop_capabilities()
    # From here on /proc/self belongs to root: write id maps before.
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    return LayerReport(layer=Layer.PRIVILEGES, is_applied=True, detail="no capabilities, no_new_privs, not dumpable")
