"""Finds and imports the plugin's class: from a file, `module:Class`, or an installed entry point (`runnerd.plugins`).

Runs inside the sandbox, after seccomp: importing is already running foreign code.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any

from protocol.zygote import PluginSource
from workers.sdk.plugin import Plugin, PluginError

ENTRY_POINT_GROUP = "runnerd.plugins"
_PACKAGE = "__init__.py"


def load(source: PluginSource) -> tuple[type, str]:
    """The plugin's class and the digest of its code (`sha256:…`, taken before the code runs).

    Raises PluginError when there is no such plugin; whatever the plugin's own module raises passes through.
    """
    match source.kind:
        case "path":
            file = os.path.join(source.value, _PACKAGE) if os.path.isdir(source.value) else source.value
            digest = _digest(file)
            return _only_plugin(_import_file(file)), digest
        case "module":
            module_name, _, class_name = source.value.partition(":")
            digest = _digest_of_module(module_name)
            return _named_class(importlib.import_module(module_name), class_name), digest
        case "entry_point":
            # Only now: at the top it would be 0.1 MiB of every worker, for the few that need it.
            metadata = importlib.import_module("importlib.metadata")
            found = [point for point in metadata.entry_points(group=ENTRY_POINT_GROUP) if point.name == source.value]
            if not found:
                raise PluginError(
                    f"no installed package has an entry point {source.value!r} in group {ENTRY_POINT_GROUP}"
                )
            if len(found) > 1:
                places = ", ".join(sorted(point.value for point in found))
                raise PluginError(
                    f"several installed packages have an entry point {source.value!r} in group {ENTRY_POINT_GROUP}: "
                    f"{places}; name one with module = 'pkg.module:Class'"
                )
            digest = _digest_of_module(found[0].module)
            return _checked_class(found[0].load(), source.value), digest
    raise PluginError(f"unknown kind of plugin source {source.kind!r}")


def _import_file(file: str) -> ModuleType:
    directory, file_name = os.path.split(file)
    is_package = file_name == _PACKAGE
    stem = os.path.basename(directory) if is_package else os.path.splitext(file_name)[0]
    # Under a name of our own: a plugin file called `json.py` must not shadow the standard library.
    name = f"runnerd_plugin_{stem}".replace("-", "_")
    locations = [directory] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python source file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _only_plugin(module: ModuleType) -> type:
    """The plugin that the module defines, or that a package's `__init__.py` imports from its own modules."""
    inside = f"{module.__name__}."
    found = {
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Plugin) and f"{value.__module__}.".startswith(inside)
    }
    if len(found) == 1:
        return found.pop()
    if not found:
        raise PluginError(f"{module.__file__} defines no class that derives from workers.sdk.Plugin")
    names = ", ".join(sorted(value.__name__ for value in found))
    raise PluginError(f"{module.__file__} defines several plugins ({names}); name one with module = 'pkg.module:Class'")


def _named_class(module: ModuleType, name: str) -> type:
    if not name:
        return _only_plugin(module)
    if not hasattr(module, name):
        raise PluginError(f"module {module.__name__} has no {name}")
    return _checked_class(getattr(module, name), f"{module.__name__}:{name}")


def _checked_class(value: Any, where: str) -> type:
    if not inspect.isclass(value):
        raise PluginError(f"{where} is a {type(value).__name__}, not a class")
    return value


def _digest_of_module(name: str) -> str:
    if "" in name.split("."):
        raise PluginError(f"{name!r} is not the name of a module; write module = 'package.module:Class'")
    try:
        spec = importlib.util.find_spec(name)  # imports the packages around it
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            raise PluginError(f"module {name} is not installed: {error}") from None
        raise
    if spec is None or spec.origin is None:
        raise PluginError(f"module {name} is not installed, or has no source file")
    return _digest(spec.origin)


def _digest(file: str) -> str:
    try:
        with open(file, "rb", buffering=0) as code_file:
            code = code_file.read()
    except OSError as error:
        raise PluginError(f"plugin code {file} cannot be read: {error.strerror}") from error
    return "sha256:" + hashlib.sha256(code).hexdigest()
