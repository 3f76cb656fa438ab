"""`runnerctl why`: whether one screen answers why a plugin did not act."""

from pathlib import Path

import msgspec
import pytest

from runnerd.cli import hindrance
from runnerd.cli.decision_text import asked_for, shortened
from runnerd.cli.exits import ExitCode
from runnerd.cli.hindrance import CHAIN_AWAITED, SWITCHED_OFF, hindrances
from runnerd.cli.why_view import fold_calls, fold_events
from runnerd.control.messages import Failure, Reply, Request
from runnerd.control.record_messages import GetHistory, GetRuns, History, HistoryEvent, Runs
from runnerd.control.status_messages import GetStatus, PluginStatus, Status
from tests.cli.running import invoke
from tests.cli.samples import ACTED, EVENTS, HASH, ago, chain, plugin, run, status, vault
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_it_shows_reasons_actions_and_whole_hashes_at_every_width(busy: FakeDaemon, columns: int) -> None:
    """A hash is copied from here: it stands on one line, whole."""
    result = invoke("--socket", str(busy.path), "why", "range-maker", columns=columns)
    assert result.exit_code == ExitCode.DONE
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.split()[-1:] == [HASH] for line in lines)
    flowing = " ".join(result.stdout.split())
    assert "mint_binary(strike=200000, size=5000000000000000000, is_call=true)" in flowing
    assert "mint_range(bounds=[199950, 200050], size=5000000000000000000) with 0.05 ether" in flowing
    assert "action 1 (withdraw) is not in the catalogue of vault main; granted: mint_binary, mint_range" in flowing
    assert "decided in 0.84 ms" in flowing


def test_calls_and_workers_are_one_timeline_newest_first(busy: FakeDaemon) -> None:
    """The crash stands between the call before it and the call after it."""
    shown = invoke("--socket", str(busy.path), "why", "range-maker").stdout
    order = [
        shown.index(text) for text in ("call 812", "#2 exited: killed by SIGSEGV", "call 811", "call 810", "2026-")
    ]
    assert order == sorted(order)


def test_an_idle_plugin_says_its_reason_once(busy: FakeDaemon) -> None:
    """Three equal noops are one line with their number; what acted or was asked for is never folded."""
    shown = invoke("--socket", str(busy.path), "why", "range-maker").stdout
    assert "(× 3 since 14:05:18)" in shown
    assert "calls 813 to 815" in shown
    twice = [msgspec.structs.replace(ACTED, id=2), ACTED]
    assert len([*fold_calls(twice)]) == 2
    assert len([*fold_calls([run(3, 1), run(2, 2, reason="another"), run(1, 3)])]) == 3


def test_denied_system_calls_of_one_generation_are_one_line() -> None:
    """Twenty lines of denials would push the reason off the screen."""
    folded = [*fold_events(EVENTS)]
    assert [len(one.events) for one in folded] == [1, 1, 2, 1]


def test_an_unknown_plugin_is_answered_with_those_that_exist(busy: FakeDaemon) -> None:
    """Exit code 1, one line."""
    result = invoke("--socket", str(busy.path), "why", "rangemaker")
    assert result.exit_code == ExitCode.ATTENTION
    assert "there is no plugin 'rangemaker'; there are: flow-follower, hostile, range-maker" in result.stderr


def test_a_plugin_that_was_never_called_says_so(socket: Path) -> None:
    """An empty list would leave the question open."""

    def answer(request: Request) -> Reply:
        match request:
            case GetStatus():
                return status()
            case GetRuns():
                return Runs(runs=[])
            case _:
                return History(plugin="range-maker", events=[])

    with fake_daemon(socket, answer):
        shown = invoke("--socket", str(socket), "why", "range-maker").stdout
    assert "✓ nothing hinders it" in shown
    assert "no call yet" in shown


def test_it_asks_for_no_more_than_the_protocol_allows(busy: FakeDaemon) -> None:
    """More calls are asked for than are shown, but never above the limit of a request."""
    assert invoke("--socket", str(busy.path), "why", "range-maker", "-n", "1000").exit_code == ExitCode.DONE
    limits = [request.limit for request in busy.requests if isinstance(request, GetRuns | GetHistory)]
    assert limits == [1_000, 1_000]


@pytest.mark.parametrize(
    "one,whole,says",
    [
        (plugin("a"), status(), None),
        (plugin("a", state="quarantined", reason="bad"), status(), "quarantined for 12 min: bad; when it is mended:"),
        (plugin("a", state="quarantined", reason="bad"), status(), "runnerctl restart a"),
        (plugin("a", state="backoff", reason="killed"), status(), "its worker crashed and is started again shortly"),
        (plugin("a", state="unhealthy", reason="KeyError"), status(), "so it skips ticks between trials: KeyError"),
        (plugin("a", state="stopped", reason="commanded stop"), status(), "to start it: runnerctl restart a"),
        (plugin("a", state="stopped", reason="enabled = false"), status(), "set enabled = true in [plugins.a]"),
        (plugin("a", state="stopped", reason="its chain has not answered yet"), status(), "it starts by itself"),
        (
            plugin("a", state="quarantined", reason="not ours"),
            status(vaults=[vault(problem="not ours")]),
            "not ours; when the cause is mended, restart runnerd",
        ),
        (
            plugin("a", state="quarantined", reason="serves chain 5"),
            status(chains=[chain(problem="serves chain 5")]),
            "restart runnerd: systemctl restart runnerd",
        ),
        (plugin("a", state="starting"), status(), "starting for 12 min"),
        (plugin("a", paused="everything is paused by uid:0"), status(), "to go on: runnerctl resume --all"),
        (plugin("a", paused="main is"), status(vaults=[vault(paused="main is")]), "runnerctl resume --vault main"),
        (plugin("a", paused="plugin a is paused"), status(), "runnerctl resume a"),
        (plugin("a", reducing="everything is set to reducing"), status(), "only reducing actions pass: everything is"),
        (plugin("a", reducing="main is"), status(vaults=[vault(reducing="main is")]), "runnerctl resume --vault main"),
        (
            plugin("a"),
            status(vaults=[vault(paused_actions=["main.mint"])]),
            "action main.mint is paused; to go on: runnerctl resume --action main.mint",
        ),
        (plugin("a", triggers=[]), status(), "only `runnerctl fire a` calls it"),
        (plugin("a", waiting=4, deciding=16), status(), "4 calls wait in its queue while 16 are decided"),
        (plugin("a"), status(vaults=[vault(problem="not ours")]), "vault main is refused: not ours"),
        (plugin("a"), status(vaults=[vault(waiting_intents=2)]), "2 intents of vault main wait for the chain"),
        (plugin("a"), status(chains=[chain(problem="no answer")]), "chain base: no answer"),
        (plugin("a"), status(database="not reachable"), "the database is not reachable"),
    ],
)
def test_what_hinders_a_plugin_is_said_with_what_to_do(one: PluginStatus, whole: Status, says: str | None) -> None:
    """Each state, pause and problem that stands between a plugin and the chain; none for a plugin that runs."""
    found = hindrances(one, whole)
    assert (found == []) if says is None else any(says in sentence for sentence in found), found


def test_a_decision_reads_like_the_calls_it_asks_for() -> None:
    """Integers in full, hex bare, other text in quotes; a Noop asks for nothing; an unknown record stays as it is."""
    assert asked_for(
        '{"kind":"act","actions":[{"name":"a","args":{"to":"0xab","note":"x \\"y\\"","n":[1,[true]]}}]}'
    ) == ['a(to=0xab, note="x \\"y\\"", n=[1, [true]])']
    assert asked_for(
        '{"kind":"act","actions":[{"name":"a"}],"expect":[{"kind":"balance_change","min":-5,"max":0},'
        '{"kind":"balance_change","token":"0x00000000000000000000000000000000000000c1","min":9},'
        '{"kind":"share_price","read":"nav","max_change_bps":50,"args":{"shares":1}}]}'
    ) == [
        "a()",
        "expecting native balance to change by at least -5 and at most 0",
        "expecting balance of token 0x00000000000000000000000000000000000000c1 to change by at least 9",
        "expecting nav(shares=1) to move by at most 50 bps",
    ]
    assert asked_for('{"kind":"noop","reason":"x"}') == asked_for(None) == []
    assert asked_for('{"kind":"later"}') == ['{"kind":"later"}']
    assert shortened("x" * 200) == "x" * 160 + "… (200 characters)"


def test_older_worker_events_stand_apart_when_older_calls_were_not_asked_for(busy: FakeDaemon) -> None:
    """Otherwise a crash of last week would seem to follow the call before it in the list."""
    shown = invoke("--socket", str(busy.path), "why", "range-maker", "-n", "1").stdout
    assert shown.index("call 816") < shown.index("before these calls") < shown.index("#3 ready")


def test_a_crash_is_told_in_full_once(socket: Path) -> None:
    """Its worker, the call that it ended and the quarantine all carry the same stderr: one screen has room for one."""
    crash = "exit code 6; stderr: " + "Fatal Python error " * 12 + "in decide"
    one = plugin("range-maker", state="quarantined", reason=f"crashed 3 times in 600 s, last: {crash}")
    runs = [run(2, 1, outcome="dead", reason=f"it ended its worker 3 times, last: {crash}", decision=None)]
    events = [HistoryEvent(at=ago(2), generation=3, kind="exited", detail=crash)]

    def answer(request: Request) -> Reply:
        match request:
            case GetStatus():
                return status(plugins=[one])
            case GetRuns():
                return Runs(runs=runs)
            case _:
                return History(plugin="range-maker", events=events)

    with fake_daemon(socket, answer):
        shown = invoke("--socket", str(socket), "why", "range-maker", columns=100).stdout
    flowing = " ".join(shown.split())
    assert flowing.count(crash) == 1
    assert sum(line.endswith("…") for line in shown.splitlines()) == 2


def test_an_idle_plugin_is_asked_for_far_more_calls_than_are_shown(socket: Path) -> None:
    """A thousand equal noops must not hide the call before them; a reply too large for that keeps the first answer."""
    acted = msgspec.structs.replace(ACTED, id=1)

    def answer(request: Request) -> Reply:
        match request:
            case GetStatus():
                return status()
            case GetRuns(limit=limit) if limit > 100 and is_too_much:
                return Failure(reason="too large")
            case GetRuns(limit=limit):
                return Runs(runs=[*(run(900 - number, number) for number in range(200)), acted][:limit])
            case _:
                return History(plugin="range-maker", events=[])

    for is_too_much in (False, True):
        with fake_daemon(socket, answer):
            result = invoke("--socket", str(socket), "why", "range-maker", "-n", "5")
        assert result.exit_code == ExitCode.DONE
        assert (HASH in result.stdout) is not is_too_much
        assert f"(× {25 if is_too_much else 200} since" in result.stdout


def test_as_json_it_holds_what_hinders_and_every_call_unfolded(busy: FakeDaemon) -> None:
    """For a program: nothing is folded, cut or coloured."""
    result = invoke("--socket", str(busy.path), "why", "range-maker", "--json")
    shown = msgspec.json.decode(result.stdout)
    assert result.exit_code == ExitCode.DONE
    assert shown["plugin"]["name"] == "range-maker"
    assert HASH in {run["transaction"] for run in shown["runs"]}
    assert {813, 814, 815} <= {run["id"] for run in shown["runs"]}
    assert isinstance(shown["hindrances"], list)
    assert shown["events"]


def test_the_reasons_that_advice_hangs_on_are_those_that_runnerd_gives() -> None:
    """`runnerctl restart` is refused for them, so another advice is given; a reworded reason would bring it back."""
    source = (Path(hindrance.__file__).parents[1] / "plugins.py").read_text("utf-8")
    assert f'"{SWITCHED_OFF}"' in source
    assert f'"{CHAIN_AWAITED}"' in source
