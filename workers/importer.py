"""Imports out of a plugin's tree: only what was counted, and only the bytes that were counted.

A path hook, so that it holds whatever the name under which a file of the tree is imported, and wherever on `sys.path`
the plugin has put it. Bytecode files are not looked at. Installed by `workers.loader`.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Final

from workers.identity import Tree

SOURCE_SUFFIX: Final = ".py"


class SourceLoader(SourceFileLoader):
    """Compiles what the tree gives out, and never a cached compilation."""

    def __init__(self, name: str, path: str, tree: Tree) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of the module. Raises CodeError when the file was changed since."""
        code: CodeType = self.source_to_code(self._tree.read(self.path), self.path)
        return code


class ExtensionLoader(ExtensionFileLoader):
    """The dynamic loader reads the file by itself, so what can be done is to look at it right before."""

    def __init__(self, name: str, path: str, tree: Tree) -> None:
        super().__init__(name, path)
        self._tree = tree

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the shared object. Raises CodeError when the file was changed since."""
        self._tree.read(self.path)
        return super().create_module(spec)


class TreeFinder:
    """Finds modules in one directory of a tree: `importlib.abc.PathEntryFinder`."""

    def __init__(self, tree: Tree, directory: str) -> None:
        self._tree = tree
        self._directory = directory

    def find_spec(self, name: str, _: ModuleType | None = None) -> ModuleSpec | None:
        """The module `name` in this directory. None when nothing that was counted is it."""
        base = os.path.join(self._directory, name.rpartition(".")[2])
        for suffix in (*EXTENSION_SUFFIXES, SOURCE_SUFFIX):
            for path in (os.path.join(base, "__init__" + suffix), base + suffix):
                if path in self._tree:
                    return spec_of(name, path, self._tree)
        if self._tree.has_directory(base):
            spec = ModuleSpec(name, None)
            spec.submodule_search_locations = [base]
            return spec
        return None

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """For `pkgutil`: (name, whether it is a package)."""
        for entry in sorted(self._tree.names_in(self._directory)):
            spec = self.find_spec(entry.partition(".")[0])
            if spec is not None and spec.origin is not None and spec.name != "__init__":
                yield prefix + spec.name, spec.submodule_search_locations is not None


def spec_of(name: str, path: str, tree: Tree) -> ModuleSpec:
    """How the counted file `path` becomes the module `name`."""
    is_package = os.path.basename(path).partition(".")[0] == "__init__"
    is_source = path.endswith(SOURCE_SUFFIX)
    loader = SourceLoader(name, path, tree) if is_source else ExtensionLoader(name, path, tree)
    locations = [os.path.dirname(path)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader, submodule_search_locations=locations)
    assert spec is not None  # it has a loader
    return spec


def install(tree: Tree) -> None:
    """From here on whatever is imported from a directory of `tree` comes out of it."""

    def hook(path: str) -> TreeFinder:
        directory = os.path.realpath(path)
        if not tree.is_around(directory):
            raise ImportError("not a directory of the plugin")
        return TreeFinder(tree, directory)

    sys.path_hooks.insert(0, hook)
    for path in [path for path in sys.path_importer_cache if tree.is_around(os.path.realpath(path))]:
        del sys.path_importer_cache[path]
