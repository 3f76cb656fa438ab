"""The arrows of CONTRIBUTING.md (`protocol ← workers`, `protocol ← runnerd`, never between the two sides) and those of
its rules that a syntax tree can show.

Reads every file below the three packages, and every import in it, also under `TYPE_CHECKING`. Run by `make check`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("protocol", "workers", "runnerd")
MAX_LINES = 340
ALLOWED = {
    "protocol": {"protocol", "msgspec"},
    # Whatever a worker imports is inside the sandbox with hostile code, and costs memory once per worker.
    "workers": {"protocol", "workers", "msgspec", "zmq", "setproctitle", "pyseccomp"},
}
"""Beside the standard library. runnerd may import any dependency."""
FORBIDDEN = {"runnerd": {"workers", "tests", "deploy"}}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
PICKLING = {
    # Its handler, with typed packets in place of its queue of pickles (docs/security.md).
    "multiprocessing_logging": {"runnerd/http/records.py"},
    "multiprocessing": {"runnerd/services/http.py", "runnerd/cli/daemon.py"},
    "ProcessPoolExecutor": set[str](),
}
"""What unpickles what another process sends → where it may be used all the same."""
DYNAMIC = {"import_module", "__import__"}


def find_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every import; an import by a literal name counts too."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                yield node.lineno, "." * node.level + (node.module or "")
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(module)), *_]
            ):
                if name in DYNAMIC:
                    yield node.lineno, module
            case _:
                pass


def find_crossings(path: str, tree: ast.AST) -> Iterator[str]:
    """Imports that the package of `path` may not have."""
    package = path.split("/", maxsplit=1)[0]
    for line, module in find_imports(tree):
        top = module.split(".")[0]
        if package in ALLOWED:
            is_allowed = top in ALLOWED[package] or top in sys.stdlib_module_names
        else:
            is_allowed = bool(top) and top not in FORBIDDEN[package]
        if not is_allowed:
            yield f"{path}:{line} imports {module or 'a relative name'}"


def find_pickles(path: str, tree: ast.AST) -> Iterator[str]:
    """Ways for a pickle to come in: code execution beside the key."""
    for line, module in find_imports(tree):
        top = module.split(".")[0]
        if top in PICKLES or path not in PICKLING.get(top, {path}):
            yield f"{path}:{line} imports {module}, which unpickles"
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if path not in PICKLING.get(
                name, {path}
            ):
                yield f"{path}:{node.lineno} uses {name}, which unpickles"
            case _:
                pass


def find_late_imports(path: str, tree: ast.AST) -> Iterator[str]:
    """Imports inside functions: they hide a dependency, or a cycle."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield f"{path}:{node.lineno} imports inside {function.name}"


def find_problems(root: Path) -> list[str]:
    """Everything that breaks a rule below `root`."""
    problems: list[str] = []
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        path, text = file.relative_to(root).as_posix(), file.read_text("utf-8")
        tree = ast.parse(text)
        problems += find_crossings(path, tree)
        problems += find_pickles(path, tree)
        problems += find_late_imports(path, tree)
        if len(text.splitlines()) > MAX_LINES:
            problems.append(f"{path} has {len(text.splitlines())} lines, more than {MAX_LINES}")
        if not ast.get_docstring(tree):
            problems.append(f"{path} has no docstring")
    return problems


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_looked_at(package: str) -> None:
    """A check of nothing finds nothing."""
    assert list((REPOSITORY / package).rglob("*.py"))


def test_no_file_breaks_a_rule() -> None:
    """The untrusted side shares words with the trusted side and nothing else; no pickles; files a reader can hold."""
    assert not find_problems(REPOSITORY)


@pytest.mark.parametrize(
    "path, text, problem",
    [
        ("protocol/a.py", "import zmq", "a.py:2 imports zmq"),
        ("protocol/a.py", "from workers import sdk", "imports workers"),
        ("protocol/a.py", "from runnerd.clock import Clock", "imports runnerd.clock"),
        ("workers/sub/a.py", "from runnerd.wallets import keystore", "imports runnerd.wallets"),
        ("workers/a.py", "import web3.auto", "imports web3.auto"),
        (
            "workers/a.py",
            "import importlib\nimportlib.import_module('runnerd.errors')",
            "a.py:3 imports runnerd.errors",
        ),
        (
            "runnerd/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import workers.loop",
            "a.py:4 imports",
        ),
        ("runnerd/a.py", "try:\n    import workers\nexcept ImportError:\n    pass", "imports workers"),
        ("runnerd/a.py", "from tests.support import leaks", "imports tests.support"),
        ("runnerd/a.py", "from . import app", "imports ."),
        ("runnerd/a.py", "__import__('workers.sdk')", "imports workers.sdk"),
        ("protocol/a.py", "import pickle", "imports pickle, which unpickles"),
        ("runnerd/store/a.py", "from pickle import loads", "imports pickle, which unpickles"),
        ("workers/a.py", "import multiprocessing.connection", "imports multiprocessing.connection, which unpickles"),
        ("runnerd/a.py", "from multiprocessing_logging import install_mp_handler", "which unpickles"),
        ("runnerd/a.py", "from concurrent.futures import ProcessPoolExecutor", "uses ProcessPoolExecutor"),
        ("runnerd/a.py", "import concurrent.futures as f\nf.ProcessPoolExecutor()", "uses ProcessPoolExecutor"),
        ("workers/a.py", "def f():\n    import json", "a.py:3 imports inside f"),
        ("runnerd/a.py", "class A:\n    async def f(self):\n        from json import loads", "imports inside f"),
        ("runnerd/a.py", "x = 1\n" * (MAX_LINES - 1), "has 341 lines, more than 340"),
    ],
)
def test_the_check_sees_a_broken_rule(tmp_path: Path, path: str, text: str, problem: str) -> None:
    """Control, in a tree of its own: each of these breaks one rule, or hides that it does."""
    _write(tmp_path, path, f'"""Docstring."""\n{text}\n')
    found = find_problems(tmp_path)
    assert any(problem in line for line in found), found


@pytest.mark.parametrize("text", ["", "# only a comment\n", "x = 1\n", "def f():\n    '''Of a function.'''\n"])
def test_the_check_sees_a_module_without_a_docstring(tmp_path: Path, text: str) -> None:
    """An empty `__init__.py` says nothing about its package."""
    _write(tmp_path, "runnerd/a/__init__.py", text)
    assert find_problems(tmp_path) == ["runnerd/a/__init__.py has no docstring"]


def test_the_check_lets_pass_what_is_allowed(tmp_path: Path) -> None:
    """Control of the control: the same tree without a broken rule has no problem."""
    _write(tmp_path, "protocol/a.py", '"""Words."""\nimport os\nimport msgspec\nfrom protocol.b import c\n')
    _write(tmp_path, "workers/a.py", '"""Worker."""\nimport zmq\nfrom protocol import a\nfrom workers.sdk import b\n')
    _write(tmp_path, "runnerd/a.py", '"""App."""\nimport web3\nfrom protocol import a\nfrom runnerd.b import c\n')
    _write(tmp_path, "runnerd/services/http.py", '"""Page."""\nimport multiprocessing\n')
    _write(tmp_path, "runnerd/http/records.py", '"""Records."""\nimport multiprocessing_logging\n')
    _write(tmp_path, "runnerd/b.py", '"""Long."""\n' + "x = 1\n" * (MAX_LINES - 1))
    assert find_problems(tmp_path) == []


def _write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
