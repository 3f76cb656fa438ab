"""What hostile plugin code would try, one function each: returns when it succeeded, raises OSError when it was denied.

The same functions run twice: in a plugin of the real daemon, where all must be denied, and in a plain process of the
same user (`__main__`), where all must succeed. They use the standard library alone. Each file is a family.
"""

from tests.hostile.probes import files, kernel, network, processes
from tests.hostile.probes.table import PROBES

__all__ = ["PROBES", "files", "kernel", "network", "processes"]
