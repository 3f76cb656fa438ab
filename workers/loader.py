"""Imports the plugin's class out of the code that `workers.locate` has identified.

Runs inside the sandbox, after seccomp: importing is already running foreign code.
"""

import importlib
import importlib.util
import inspect
import os
import sys
from operator import attrgetter
from types import ModuleType
from typing import Any

from workers import importer, venv
from workers.locate import PACKAGE, PluginCode
from workers.sdk.plugin import Plugin, PluginError


def load(code: PluginCode) -> type:
    """The plugin's class. What runs are the bytes that its digest counts.

    Raises PluginError when there is no such class; whatever the plugin's own module raises passes through.
    """
    if code.source.venv is not None:
        venv.run_hooks(code.source.venv)
    _import_top(code)
    try:
        module = importlib.import_module(code.module)
    except ModuleNotFoundError as error:
        if f"{code.module}.".startswith(f"{error.name}."):
            raise PluginError(f"module {code.module} is not installed: {error}") from None
        raise
    return _named_class(module, code.class_name) if code.class_name else _only_plugin(module)


def _import_top(code: PluginCode) -> None:
    """Import the root of the tree by hand: the directory around it is not the plugin's, and would not be checked."""
    tree = code.tree
    path = tree.root
    if os.path.isdir(path):
        importer.install(tree)
        path = os.path.join(path, PACKAGE)
    around = code.top.rpartition(".")[0]
    if around:
        importlib.import_module(around)  # a namespace: no code runs
    spec = importer.spec_of(code.top, path, tree)
    module = importlib.util.module_from_spec(spec)
    sys.modules[code.top] = module
    assert spec.loader is not None  # spec_of has set it
    try:
        spec.loader.exec_module(module)
    except BaseException:  # foreign code; as the import system does
        sys.modules.pop(code.top, None)
        raise


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
    try:
        value = attrgetter(name)(module)
    except AttributeError:
        raise PluginError(f"module {module.__name__} has no {name}") from None
    return _checked_class(value, f"{module.__name__}:{name}")


def _checked_class(value: Any, where: str) -> type:
    if not inspect.isclass(value):
        raise PluginError(f"{where} is a {type(value).__name__}, not a class")
    return value
