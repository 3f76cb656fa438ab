"""A plugin's own interpreter (`python = …`): how it is made to run our zygote, and whether it can.

It needs no runnerd: `workers` and `protocol` are taken from this installation, so both sides speak the same words. What
is compiled for one interpreter (msgspec and the like) it must have itself. Used by `runnerd.zygotes` and `runnerd.cli`.
"""

import asyncio
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from runnerd.supervisor.birth import CodeRefused

OLDEST: Final = (3, 11)
NEEDED: Final[Mapping[str, str]] = {
    "msgspec": "msgspec",
    "zmq": "pyzmq",
    "setproctitle": "setproctitle",
    "pyseccomp": "pyseccomp",
}
"""Modules, and the distributions that they come with."""

CHECK_DEADLINE_S: Final = 10.0
_CHECK: Final = (
    "import importlib.util as u, sys\n"
    "found = [str(n) for n in sys.version_info[:2]], [m for m in sys.argv[1:] if u.find_spec(m) is None]\n"
    "print('{\"version\":[%s],\"missing\":[%s]}' % (','.join(found[0]), ','.join('\"' + m + '\"' for m in found[1])))"
)
"""In a Python that any interpreter understands."""

_BOOT: Final = """
import importlib.util, runpy, sys
for name, path in {packages!r}:
    spec = importlib.util.spec_from_file_location(name, path + "/__init__.py", submodule_search_locations=[path])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
runpy.run_module({module!r}, run_name="__main__", alter_sys=False)
"""


class _Found(msgspec.Struct, frozen=True):
    version: tuple[int, int]
    missing: tuple[str, ...]


def program(module: str) -> tuple[str, ...]:
    """The arguments with which another interpreter runs a module of our `workers`."""
    return ("-c", _BOOT.format(packages=[(name, _home(name)) for name in ("protocol", "workers")], module=module))


def _home(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None  # it is installed with us
    assert spec.origin is not None
    return str(Path(spec.origin).parent)


async def check(python: str) -> None:
    """Return if `python` can run our workers. Raises CodeRefused, with what it needs."""
    try:
        process = await asyncio.create_subprocess_exec(
            python, "-I", "-c", _CHECK, *NEEDED, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"LANG": "C.UTF-8"}, cwd="/",
        )  # fmt: skip
    except OSError as error:
        raise CodeRefused(f"python {python} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            said, errors = await process.communicate()
    except TimeoutError:
        raise CodeRefused(f"python {python} did not answer within {CHECK_DEADLINE_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found = msgspec.json.decode(said, type=_Found)
    except msgspec.DecodeError:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise CodeRefused(f"python {python} is no interpreter that can be used: {last[0][:200]}") from None
    problem = _problem(Path(python), found)
    if problem is not None:
        raise CodeRefused(problem)


def _problem(python: Path, found: _Found) -> str | None:
    if found.version < OLDEST:
        has, needs = (".".join(map(str, version)) for version in (found.version, OLDEST))
        return f"python {python} is {has}; workers need {needs} or later"
    if found.missing:
        wanted = " ".join(f"{NEEDED[name]}=={importlib.metadata.version(NEEDED[name])}" for name in found.missing)
        return f"python {python} lacks what workers need: {python} -m pip install {wanted}"
    return None
