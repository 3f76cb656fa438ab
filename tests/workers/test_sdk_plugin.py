"""What a plugin class declares: each attribute is checked at start, and the message names it and what it may hold."""

from typing import Any

import pytest

from protocol.limits import MAX_JOBS, MAX_NAME_LENGTH, MAX_READS, MAX_TRIGGERS
from workers.sdk import Context, Cron, Event, Noop, Plugin, PluginError, Read, job
from workers.sdk.plugin import Declaration, declaration_of


class Quiet(Plugin):
    """The least that a plugin needs."""

    name = "quiet"

    async def decide(self, ctx: Context) -> Noop:
        return Noop("nothing to do")


def declared(**attributes: Any) -> Declaration:
    """The declaration of a `Quiet` with other attributes."""
    return declaration_of(type("Tested", (Quiet,), attributes))


def test_the_least_plugin_declares_its_name_and_nothing_else() -> None:
    """Vault, triggers and reads may come from the configuration."""
    assert declared() == Declaration(name="quiet", vault="", triggers=(), reads=(), jobs={"decide": "decide"})


def test_a_full_declaration_is_taken_as_it_is() -> None:
    """Names of reads become Reads; lists and tuples are alike."""
    triggers: list[Cron | Event] = [Cron(every_seconds=2), Event(topic="trades")]
    reads = ("spot", Read("spot", alias="again"), Read("balance", {"owner": "0x00"}))
    assert declared(vault="demo", triggers=triggers, reads=reads) == Declaration(
        name="quiet",
        vault="demo",
        triggers=tuple(triggers),
        reads=(Read("spot"), *reads[1:]),
        jobs={"decide": "decide"},
    )


def test_a_class_of_its_own_descent_is_a_plugin() -> None:
    """Only the attributes count; `module:Class` may name any class that has them."""

    class Own:
        name = "own"

        def decide(self, ctx: Context) -> Noop:
            return Noop("nothing to do")

    assert declaration_of(Own).name == "own"


@pytest.mark.parametrize(
    "name", [None, "", 5, b"quiet", "two words", "1st", "é", "a\n", "z" * (MAX_NAME_LENGTH + 1)], ids=ascii
)
def test_a_name_that_is_none_is_refused(name: object) -> None:
    """By the rule of the wire: otherwise the supervisor would refuse the worker's Hello for it."""
    with pytest.raises(PluginError, match=r"Tested\.name must be 1 to 64 letters, digits .* name = 'range-maker'"):
        declared(name=name)


def test_a_plugin_without_a_name_is_refused() -> None:
    """Forgetting it is the first mistake that authors make."""

    class Nameless(Plugin):
        async def decide(self, ctx: Context) -> Noop:
            return Noop("nothing to do")

    with pytest.raises(PluginError, match=r"Nameless\.name must be"):
        declaration_of(Nameless)


@pytest.mark.parametrize("vault", [None, 5, ["demo"], "z" * (MAX_NAME_LENGTH + 1), "\ud800"], ids=ascii)
def test_a_vault_that_is_no_name_is_refused(vault: object) -> None:
    """It is the name of a vault in the configuration."""
    with pytest.raises(PluginError, match=r"Tested\.vault must be a string, the name of a vault"):
        declared(vault=vault)


@pytest.mark.parametrize("decide", [None, "x", Plugin.decide], ids=["none", "text", "inherited"])
def test_a_plugin_that_does_not_decide_is_refused(decide: object) -> None:
    """The inherited method only says so."""
    with pytest.raises(PluginError, match=r"Tested must define decide\(self, ctx\)"):
        declared(decide=decide)


@pytest.mark.parametrize(
    "decide",
    [
        lambda: None,
        lambda self: None,
        lambda self, ctx, more: None,
        lambda self, ctx, more=None: None,
        lambda self, *, ctx: None,
        lambda *args: None,
        staticmethod(lambda ctx: None),
        classmethod(lambda cls, ctx: None),
        int,
        type("Unknowable", (), {"__call__": print, "__signature__": 5})(),
    ],
    ids=["none", "self", "three", "default", "keyword", "stars", "static", "class", "builtin", "unknowable"],
)
def test_a_decide_with_other_parameters_is_refused(decide: object) -> None:
    """At start, and not at the first call."""
    with pytest.raises(PluginError, match=r"Tested\.decide must take exactly \(self, ctx\)"):
        declared(decide=decide)


@pytest.mark.parametrize("attribute", ["triggers", "reads"])
@pytest.mark.parametrize(
    "value",
    [None, 5, "spot", {"spot"}, {"spot": 1}, iter(()), Cron(every_seconds=1)],
    ids=["none", "int", "text", "set", "dict", "iterator", "alone"],
)
def test_triggers_and_reads_must_be_lists(attribute: str, value: object) -> None:
    """A single one without brackets is the second mistake that authors make."""
    with pytest.raises(PluginError, match=rf"Tested\.{attribute} must be a list of"):
        declared(**{attribute: value})


@pytest.mark.parametrize("trigger", ["trades", 5, None, Cron, Read("spot")], ids=repr)
def test_a_trigger_that_is_none_is_refused(trigger: object) -> None:
    """And shown."""
    with pytest.raises(
        PluginError, match=r"Tested\.triggers holds .*; allowed are Cron\(\.\.\.\), Event\(\.\.\.\) and the"
    ):
        declared(triggers=[Cron(every_seconds=1), trigger])


@pytest.mark.parametrize("read", [5, None, Read, b"spot", Cron(every_seconds=1)], ids=repr)
def test_a_read_that_is_none_is_refused(read: object) -> None:
    """And shown."""
    with pytest.raises(PluginError, match=r"Tested\.reads holds .*; allowed are names and Read\(\.\.\.\)"):
        declared(reads=["spot", read])


def test_a_read_whose_name_is_none_is_refused() -> None:
    """By the rule of the wire, with the name shown."""
    with pytest.raises(PluginError, match=r"Tested\.reads holds 'spot price': the name of a read must be 1 to 64"):
        declared(reads=["spot price"])


def test_two_reads_of_one_key_are_refused() -> None:
    """`ctx.reads` has one value under each key; an alias tells them apart."""
    with pytest.raises(PluginError, match=r"Tested\.reads names \['spot'\] twice; give one an alias"):
        declared(reads=["spot", Read("other", alias="spot")])


@pytest.mark.parametrize(
    "attribute, items, limit",
    [
        ("triggers", [Cron(every_seconds=1)], MAX_TRIGGERS),
        ("reads", [Read("spot", alias=f"r{number}") for number in range(MAX_READS + 1)], MAX_READS),
    ],
)
def test_more_than_the_wire_carries_is_refused(attribute: str, items: list[Any], limit: int) -> None:
    """At the bound it passes."""
    many = (items * (limit + 1))[: limit + 1]
    with pytest.raises(PluginError, match=rf"Tested\.{attribute} holds {limit + 1}, the limit is {limit}"):
        declared(**{attribute: many})
    assert len(getattr(declared(**{attribute: many[:limit]}), attribute)) == limit


class Keeper(Plugin):
    """Two jobs, and no decide."""

    name = "keeper"

    @job("settle")
    async def on_settle(self, ctx: Context) -> Noop:
        return Noop("settled")

    @job("refresh")
    def refresh_nav(self, ctx: Context) -> Noop:
        return Noop("fresh")


def test_marked_methods_are_jobs_and_decide_is_one_if_it_is_there() -> None:
    """A subclass has those of its base as well."""
    assert declaration_of(Keeper).jobs == {"refresh": "refresh_nav", "settle": "on_settle"}
    more = type("More", (Keeper,), {"decide": Quiet.decide})
    assert declaration_of(more).jobs == {"decide": "decide", "refresh": "refresh_nav", "settle": "on_settle"}


def test_two_methods_of_one_job_are_refused() -> None:
    """Nobody could say which of them is meant; `decide` is the method of its job already."""
    with pytest.raises(PluginError, match="several methods for job 'settle': on_settle, other"):
        declaration_of(type("Twice", (Keeper,), {"other": job("settle")(lambda self, ctx: Noop("x"))}))
    with pytest.raises(PluginError, match="several methods for job 'decide': decide, other"):
        declared(other=job("decide")(lambda self, ctx: Noop("x")))


def test_a_job_with_other_parameters_and_a_name_that_is_none_are_refused() -> None:
    """As for decide, and for all names."""
    with pytest.raises(PluginError, match=r"Tested.other must take exactly \(self, ctx\)"):
        declared(other=job("other")(lambda self: Noop("x")))
    with pytest.raises(ValueError, match="the name of a job must be"):
        job("not a name")


def test_a_trigger_for_a_job_that_is_not_there_is_refused() -> None:
    """With those that are."""
    with pytest.raises(PluginError, match=r"Tested\.triggers names job 'settle'; it has decide"):
        declared(triggers=[Cron(every_seconds=1, job="settle")])
    with pytest.raises(PluginError, match="names job 'decide'; it has refresh, settle"):
        declaration_of(type("Tested", (Keeper,), {"triggers": [Cron(every_seconds=1)]}))


def test_more_jobs_than_the_wire_takes_are_refused() -> None:
    """One more than the limit."""
    methods = {f"m{number}": job(f"j{number}")(lambda self, ctx: Noop("x")) for number in range(MAX_JOBS)}
    with pytest.raises(PluginError, match=f"has {MAX_JOBS + 1} jobs, the limit is {MAX_JOBS}"):
        declared(**methods)
