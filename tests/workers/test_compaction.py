"""Functions that were moved in memory: the same functions, for whoever holds them."""

import asyncio
import sys
from functools import partial
from types import FunctionType, ModuleType

import pytest

from workers.compaction import compact

CODE = """
import functools

def used(a, b=2, *, c=3):
    '''Its text.'''
    def inner(): return (a, b, c)
    return inner()

def other():
    return 'other'

def make(x):
    def closed(): return x
    return closed

closed = make(5)
used.mark = 'kept'
held = [used]

class Base:
    def name(self): return 'base'

class Derived(Base):
    def name(self): return super().name() + ' derived'
    async def later(self): return self.name()
    @property
    def seen(self): return self.name()
    @classmethod
    def of(cls): return cls().name()
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Loaded, and known to `sys.modules`."""
    loaded = ModuleType("compacted")
    monkeypatch.setitem(sys.modules, "compacted", loaded)
    exec(compile(CODE, "compacted.py", "exec"), vars(loaded))  # a module of the test
    return loaded


def play(module: ModuleType) -> list[object]:
    """Run everything."""
    derived = module.Derived()
    return [
        module.used(1), module.used(1, 4, c=5), module.closed(), module.held[0](7), derived.name(), derived.seen,
        module.Derived.of(), asyncio.run(derived.later()), module.used.mark, module.used.__doc__,
    ]  # fmt: skip


def test_what_ran_is_moved_and_does_the_same(module: ModuleType) -> None:
    """Defaults, keywords, closures, attributes, methods with `super`, coroutines, properties; also for old holders."""
    before = play(module)
    old = {name: value for name, value in vars(module).items() if type(value) is FunctionType}
    codes = {name: function.__code__ for name, function in old.items()}
    assert compact(partial(play, module), ()) >= 6
    assert play(module) == before
    for name in ("used", "closed"):
        assert vars(module)[name] is not old[name]
        assert old[name].__code__ is not codes[name], "who holds the old one runs the new code too"
    assert module.other is old["other"]
    assert module.other.__code__ is codes["other"], "what did not run stays where it is"


def test_what_belongs_to_a_named_package_is_moved_unplayed(module: ModuleType) -> None:
    """What cannot be rehearsed is named."""
    before = module.Derived.name
    module.Derived.name.__module__ = "compacted"
    compact(lambda: None, ("compacted",))
    assert module.Derived.name is not before
    assert module.Derived().name() == "base derived"
