"""The kill switches: a plugin, a vault, everything. In force at once, with the name of who threw them."""

from collections.abc import Callable, Iterator

import pytest

from runnerd.control.messages import ControlError, Done, Pause, Resume
from tests.support.scene import Scene, mint, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def pause(house: Scene) -> Iterator[Callable[[str, str], None]]:
    """Throws a switch that the test's end sets back."""
    thrown: list[tuple[str, str]] = []

    def throw(scope: str, name: str) -> None:
        assert isinstance(house.daemon.ask(Pause(scope=scope, name=name)), Done)
        thrown.append((scope, name))

    yield throw
    for scope, name in thrown:
        house.daemon.ask(Resume(scope=scope, name=name))


@pytest.mark.parametrize(
    "scope, name, text",
    [
        ("plugin", "puppet", "plugin puppet is paused by uid:"),
        ("vault", "demo", "vault demo is paused by uid:"),
        ("all", "*", "everything is paused by uid:"),
    ],
)
def test_a_paused_scope_decides_nothing_until_it_is_resumed(
    house: Scene, pause: Callable[[str, str], None], scope: str, name: str, text: str
) -> None:
    """A call is recorded as denied with the switch's text and never reaches decide; after resume it acts again."""
    pause(scope, name)

    denied = house.fire("puppet", do="act", actions=[mint()])
    assert denied.outcome == "denied"
    assert (denied.reason or "").startswith(text)
    assert house.rows("select 1 from decisions where call_id = %s", denied.call_id) == []
    assert text in "\n".join(house.daemon.status().problems)
    assert house.fire("bystander", do="noop").outcome == ("noop" if scope == "plugin" else "denied")

    house.daemon.ask(Resume(scope=scope, name=name))
    assert house.fire("puppet", do="act", actions=[mint()]).outcome == "acted"


def test_a_pause_stops_a_decision_that_is_under_way(house: Scene, pause: Callable[[str, str], None]) -> None:
    """A call that was being decided when the switch was thrown is denied when it asks to act."""
    fired = house.fire("puppet", wait_s=0, do="wait", until="paused now", then=[mint()])
    wait_for(lambda: house.state("puppet", f"begun:{fired.call_id}"), "decide has begun")
    pause("vault", "demo")
    house.rows("insert into plugin_state values ('puppet', 'paused now', '1') returning 1")

    run = house.wait_run(fired.call_id)
    assert run.outcome == "denied"
    assert "vault demo is paused" in (run.reason or "")
    assert house.rows("select 1 from attempts where call_id = %s", fired.call_id) == []


def test_an_unknown_scope_is_refused_with_what_there_is(house: Scene) -> None:
    """A typing error must not look like a thrown switch."""
    with pytest.raises(ControlError, match="there is no vault or keeper 'dmeo'; there are: demo"):
        house.daemon.ask(Pause(scope="vault", name="dmeo"))
    with pytest.raises(ControlError, match="there is no plugin 'pupet'; there are: bystander"):
        house.daemon.ask(Pause(scope="plugin", name="pupet"))
