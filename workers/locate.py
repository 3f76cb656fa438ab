"""From what the configuration says of a plugin's code to the files that it is made of. Runs none of it.

A module's code is its top package: the outermost one that has code of its own. Called by `workers.birth` before it
reports, and by `workers.identify` for the operator.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.zygote import PluginSource
from workers import venv
from workers.identity import BYTECODE, CodeError, Tree, scan
from workers.sdk.plugin import PluginError

ENTRY_POINT_GROUP: Final = "runnerd.plugins"
PACKAGE: Final = "__init__.py"


@dataclass(frozen=True, slots=True)
class PluginCode:
    """A plugin's code, identified and not yet run. `top` is the module that is the tree's root; the class is in
    `module`, under `class_name` or, without one, the only plugin there.
    """

    source: PluginSource
    tree: Tree
    top: str
    module: str
    class_name: str

    @property
    def digest(self) -> str:
        """`sha256:…` of all of it."""
        return self.tree.digest


def identify(source: PluginSource) -> PluginCode:
    """Find the code and count it. Raises PluginError when there is none, or its `pin` is another one.

    Puts the plugin's own packages on `sys.path`: they are where it is looked for.
    """
    if source.venv is not None:
        venv.enter(source.venv)
    code = _located(source)
    problem = source.pin_problem(code.digest)
    if problem is not None:
        raise PluginError(problem)
    return code


def _located(source: PluginSource) -> PluginCode:
    match source.kind:
        case "path":
            return _file(source)
        case "module":
            module, _, class_name = source.value.partition(":")
            return _module(source, module, class_name)
        case "entry_point":
            module, _, class_name = _entry_point(source.value).partition(":")
            return _module(source, module, class_name)
    raise PluginError(f"unknown kind of plugin source {source.kind!r}")


def _file(source: PluginSource) -> PluginCode:
    is_package = os.path.isdir(source.value)
    name = os.path.basename(os.path.normpath(source.value))
    stem, suffix = (name, ".py") if is_package else os.path.splitext(name)
    if suffix != ".py":
        raise PluginError(f"{source.value} is not a Python source file (.py)")
    if is_package and not os.path.isfile(os.path.join(source.value, PACKAGE)):
        raise CodeError(f"plugin code {os.path.join(source.value, PACKAGE)} cannot be read: No such file or directory")
    tree = scan(source.value, first=PACKAGE if is_package else "")
    # Under a name of our own: a plugin file called `json.py` must not shadow the standard library.
    top = f"runnerd_plugin_{stem}".replace("-", "_").replace(".", "_")
    return PluginCode(source, tree, top, top, "")


def _entry_point(name: str) -> str:
    # Only now: at the top it would be 0.1 MiB of every worker, for the few that need it.
    metadata = importlib.import_module("importlib.metadata")
    found = [point for point in metadata.entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
    if not found:
        raise PluginError(f"no installed package has an entry point {name!r} in group {ENTRY_POINT_GROUP}")
    if len(found) > 1:
        places = ", ".join(sorted(point.value for point in found))
        raise PluginError(
            f"several installed packages have an entry point {name!r} in group {ENTRY_POINT_GROUP}: "
            f"{places}; name one with module = 'pkg.module:Class'"
        )
    return f"{found[0].module}:{found[0].attr}"


def _module(source: PluginSource, module: str, class_name: str) -> PluginCode:
    parts = module.split(".")
    if "" in parts:
        raise PluginError(f"{module!r} is not the name of a module; write module = 'package.module:Class'")
    inside: Sequence[str] | None = None
    for count in range(1, len(parts) + 1):
        top = ".".join(parts[:count])
        spec = _find(top, inside)
        if spec is None:
            raise PluginError(f"module {module} is not installed: No module named {top!r}")
        if spec.origin is not None:
            return PluginCode(source, _tree_of(spec, module), top, module, class_name)
        inside = spec.submodule_search_locations  # a namespace: it has no code
        if inside is None:
            break
    raise PluginError(f"module {module} is not installed, or has no source file")


def _tree_of(spec: importlib.machinery.ModuleSpec, module: str) -> Tree:
    origin = spec.origin or ""
    if not spec.has_location or origin.endswith(BYTECODE):
        raise PluginError(f"module {module} is not installed, or has no source file")
    if spec.name in sys.modules:
        raise PluginError(f"{spec.name} is a part of the worker itself and cannot be a plugin")
    if spec.submodule_search_locations is None:
        return scan(origin)
    directory, first = os.path.split(origin)
    return scan(directory, first=first)


def _find(name: str, inside: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """As the import system would, but without importing the packages around it."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, inside)
        if spec is not None:
            return spec
    return None
