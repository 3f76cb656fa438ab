"""Takes the hooks off `os.fork`. Imported by `workers.zygote` before anything that registers one.

`threading`, `logging`, `random` and `concurrent.futures` each run Python code in a forked child, in case other threads
were about. In the zygote none is, and the objects that this code looks at are 0.7 MiB of pages that the kernel copies
for each worker. What CPython itself does after a fork stays as it is. What would be missed is that `random` seeds its
generator anew: `workers.inherited` sees to that.
"""

import os


def ignore() -> None:
    """From here on hooks are not registered."""
    os.register_at_fork = _forget


def _forget(**_: object) -> None:
    """In place of `os.register_at_fork`."""
