"""A plugin's own packages: the site-packages of its `venv` stand before ours on `sys.path`.

In two steps: `enter` runs nothing, so that the plugin can be looked for there before any of its code runs; `run_hooks`
runs the `import` lines of `.pth` files, which are foreign code, when the plugin's own may run.
"""

import os
import site
import sys
import sysconfig
from collections.abc import Iterator

from workers.sdk.plugin import PluginError


def enter(directory: str) -> None:
    """Put its packages, and the directories that its `.pth` files name, before ours. Raises PluginError."""
    places = _site_packages(directory)
    if not places:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise PluginError(
            f"venv {directory} has no lib/python{version}/site-packages: make it with Python {version}, "
            f"or name its interpreter with python = {os.path.join(directory, 'bin/python')!r}"
        )
    wanted = [path for place in places for path in (place, *_named_in(place))]
    ours = _first_of_ours()
    sys.path[ours:ours] = [path for path in dict.fromkeys(wanted) if path not in sys.path[:ours]]


def run_hooks(directory: str) -> None:
    """Run what its `.pth` files import; directories that these add come last. Their errors go to stderr."""
    for place in _site_packages(directory):
        known = {os.path.normcase(os.path.abspath(path)) for path in sys.path}
        for name in _pth_files(place):
            site.addpackage(place, name, known)


def _site_packages(directory: str) -> list[str]:
    tail = f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    places = (os.path.realpath(os.path.join(directory, library, tail)) for library in ("lib", "lib64"))
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


def _first_of_ours() -> int:
    """Where our packages begin on `sys.path`: after the standard library, which nothing may shadow."""
    library = sysconfig.get_path("stdlib")
    of_library = [
        index
        for index, path in enumerate(sys.path)
        if path.endswith(".zip") or (path.startswith(library) and "site-packages" not in path)
    ]
    return max(of_library, default=-1) + 1


def _pth_files(place: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(place) if name.endswith(".pth") and not name.startswith("."))
    except OSError as error:
        raise PluginError(f"{place} cannot be read: {error.strerror}") from error


def _named_in(place: str) -> Iterator[str]:
    """Directories that `.pth` files name, as `site` reads them."""
    for name in _pth_files(place):
        try:
            with open(os.path.join(place, name), encoding="utf-8-sig", errors="surrogateescape") as file:
                lines = file.read(1 << 20).splitlines()
        except OSError as error:
            raise PluginError(f"{os.path.join(place, name)} cannot be read: {error.strerror}") from error
        for line in lines:
            path = os.path.join(place, line.strip())
            if line.strip() and not line.startswith(("#", "import ", "import\t")) and os.path.isdir(path):
                yield os.path.abspath(path)
