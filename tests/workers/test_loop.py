"""A worker from Hello to its exit: real process, real link, no sandbox; the test is its supervisor."""

import hashlib
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protocol.actions import Act, Action, Noop
from protocol.limits import PROTOCOL_VERSION
from protocol.messages import (
    DecideFailed,
    Decision,
    Hello,
    LogLevel,
    LogRecord,
    Ping,
    Pong,
    Refused,
    StateCompareAndSet,
    StateGet,
    StatePut,
    StateRefused,
    StateReply,
    Stop,
    Welcome,
)
from protocol.triggers import Cron, Event, Read
from tests.support.worker_process import NOW, WorkerProcess, decide, start_worker

pytestmark = pytest.mark.integration

HEAD = """
import asyncio, logging, sys, threading
from pathlib import Path
from workers.sdk import Action, Context, Cron, Event, Noop, Plugin, Read, job

class Tested(Plugin):
    name = "tested"
"""

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(short_dir: Path) -> Iterator[Start]:
    """Starts a worker whose plugin is `Tested`, with these lines in its class."""
    with ExitStack() as running:

        def started(lines: str, *, head: str = HEAD, generation: int = 1, queue: int = 0) -> WorkerProcess:
            plugin = short_dir / "plugin.py"
            plugin.write_text(head + textwrap.indent(textwrap.dedent(lines), "    "), "utf-8")
            return running.enter_context(start_worker(short_dir, str(plugin), generation=generation, queue=queue))

        yield started


def noop(call_id: int, reason: str) -> Decision:
    """The Decision of a quiet call."""
    return Decision(call_id=call_id, attempt=1, outcome=Noop(reason))


# --- opening and calls -----------------------------------------------------------------------------------------------


def test_hello_says_what_the_plugin_declares(start: Start, short_dir: Path) -> None:
    """Version, generation, declaration, and the digest of the code."""
    worker = start(
        """
        vault = "demo"
        triggers = [Cron(every_seconds=2), Event(topic="trades")]
        reads = ["spot", Read("balance", {"owner": b"\\x01"}, alias="mine")]
        async def decide(self, ctx):
            return Noop("quiet")
        """,
        generation=7,
    )
    digest = hashlib.sha256((short_dir / "plugin.py").read_bytes()).hexdigest()
    assert worker.open() == Hello(
        version=PROTOCOL_VERSION,
        generation=7,
        plugin="tested",
        vault="demo",
        triggers=(Cron(every_seconds=2), Event(topic="trades")),
        reads=(Read("spot"), Read("balance", {"owner": "0x01"}, alias="mine")),
        digest=f"sha256:{digest}",
    )


def test_a_call_travels_from_decide_to_decision(start: Start) -> None:
    """The context arrives as it was sent; Actions and state writes come back under the call's id and attempt."""
    worker = start(
        """
        async def decide(self, ctx):
            call, block, vault = ctx.call, ctx.block, ctx.vault
            ctx.state.put("seen", [call.id, call.payload, ctx.now.isoformat(), block.number, vault.name])
            return [Action("mint", {"at": ctx.reads["spot"], "width": ctx.params["width"]}, 5)]
        """
    )
    worker.open(width=50)
    worker.send(decide(9, attempt=2, payload="é", reads={"spot": 2**255}))
    assert worker.receive(Decision) == Decision(
        call_id=9,
        attempt=2,
        outcome=Act(actions=(Action("mint", {"at": 2**255, "width": 50}, 5),)),
        state_writes=(StatePut(key="seen", value=f'[9,"é","{NOW.isoformat()}",1,"demo"]'),),
    )


def test_each_job_has_a_method_of_its_own(start: Start) -> None:
    """One in the loop, one in a thread; a job that the code does not have fails that call alone."""
    worker = start(
        """
        async def decide(self, ctx):
            return Noop("decided")

        @job("settle")
        def on_settle(self, ctx):
            return Noop(f"settled {ctx.call.job} for {ctx.call.origin.source}")
        """,
    )
    assert worker.open().jobs == ("decide", "settle")
    assert worker.send(decide(1)).receive(Decision) == noop(1, "decided")
    assert worker.send(decide(2, job="settle")).receive(Decision) == noop(2, "settled settle for test")
    failed = worker.send(decide(3, job="gone")).receive(DecideFailed)
    assert failed.error == "there is no job 'gone'; there is decide, settle"
    assert worker.send(decide(4)).receive(Decision) == noop(4, "decided")


@pytest.mark.parametrize("way, wait, meeting", [("async def", "await ", "asyncio"), ("def", "", "threading")])
def test_calls_are_decided_at_once(start: Start, way: str, wait: str, meeting: str) -> None:
    """Sixteen calls wait for each other: with a hidden mutex none of them would ever answer."""
    worker = start(
        f"""
        meeting = {meeting}.Barrier(16)
        {way} decide(self, ctx):
            {wait}self.meeting.wait()
            return Noop("met")
        """
    )
    worker.open()
    worker.send(*(decide(call_id) for call_id in range(1, 17)))
    answers = [worker.receive(Decision) for _ in range(16)]
    assert {answer.call_id for answer in answers} == set(range(1, 17))
    assert {answer.outcome for answer in answers} == {Noop("met")}


def test_one_instance_takes_all_calls(start: Start) -> None:
    """What it keeps in `self` lasts until its process ends."""
    worker = start(
        """
        count = 0
        async def decide(self, ctx):
            self.count += 1
            return Noop(f"call {self.count}")
        """
    )
    worker.open()
    for number in (1, 2, 3):
        assert worker.send(decide(number)).receive(Decision) == noop(number, f"call {number}")


def test_pings_are_answered_though_a_plain_def_blocks(start: Start) -> None:
    """Before Welcome as well: Ping asks for the event loop, not for the plugin."""
    worker = start(
        """
        def decide(self, ctx):
            Path(ctx.call.payload).touch()
            threading.Event().wait()
        """
    )
    worker.receive(Hello)
    assert worker.send(Ping(nonce=1)).receive(Pong) == Pong(nonce=1)
    marker = worker.directory / "blocked"
    worker.send(Welcome(params={}), decide(payload=str(marker)))
    worker.wait_for_file(marker)
    assert worker.send(Ping(nonce=2**63 - 1)).receive(Pong) == Pong(nonce=2**63 - 1)


# --- failures --------------------------------------------------------------------------------------------------------


FAILURES = {
    "raise KeyError('spot')": "KeyError: 'spot'",
    "sys.exit(3)": "SystemExit: 3",
    "raise KeyboardInterrupt": "KeyboardInterrupt: ",
    "raise asyncio.CancelledError": "CancelledError: ",
    "raise ValueError('half \\ud83d')": "ValueError: half \\ud83d",
    "raise Unspeakable": "Unspeakable: (its text cannot be shown)",
    "return None": "PluginError: decide returned a NoneType",
    "return []": "ValueError: an empty list of Actions",
    "return Noop('\\u200b')": "ValueError: a Noop needs a reason that is not blank",
    "return changed(1.5)": "got `float`",
    "return changed('\\ud800')": "Decision cannot be encoded: UnicodeEncodeError",
    "[ctx.state.put(f'{n}', 'v' * 65_000) for n in range(20)]; return Noop('x')": "bytes, the limit is 1048576",
    "1 / 0": "ZeroDivisionError: division by zero",
}
FAILURE_HEAD = """
class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit("in __str__")

def changed(value):
    action = Action("mint", {"x": 1})
    action.args["x"] = value
    return [action]
"""


@pytest.mark.parametrize("way", ["async def", "def"])
def test_a_failing_decide_is_reported_and_the_worker_lives_on(start: Start, way: str) -> None:
    """Whatever decide raises or returns: one DecideFailed for its call, and the next call is answered."""
    branches = "".join(f"\n    if ctx.call.payload == {failure!r}:\n        {failure}" for failure in FAILURES)
    worker = start(f"{way} decide(self, ctx):{branches}\n    return Noop('fine')", head=FAILURE_HEAD + HEAD)
    worker.open()
    for call_id, (failure, error) in enumerate(FAILURES.items(), start=1):
        failed = worker.send(decide(call_id, attempt=3, payload=failure)).receive(DecideFailed)
        assert (failed.call_id, failed.attempt) == (call_id, 3)
        assert error in failed.error, failure
        assert worker.send(decide(1_000)).receive(Decision) == noop(1_000, "fine")
    assert worker.process.poll() is None


def test_a_plain_decide_that_ran_out_of_items_is_reported(start: Start) -> None:
    """StopIteration once never left the thread: the call hung until its deadline."""
    worker = start("def decide(self, ctx):\n    return next(iter(()))")
    worker.open()
    assert worker.send(decide()).receive(DecideFailed).error == "StopIteration: "


def test_a_task_of_the_plugin_cannot_exit_the_worker(start: Start) -> None:
    """asyncio lets SystemExit of any task through the loop; decide gets it, and the worker goes on."""
    worker = start(
        """
        async def leave(self):
            sys.exit(3)
        async def decide(self, ctx):
            if ctx.call.payload:
                asyncio.get_running_loop().call_soon(sys.exit, 4)
                return Noop("still here")
            await asyncio.gather(self.leave())
        """
    )
    worker.open()
    assert worker.send(decide(1)).receive(DecideFailed).error == "SystemExit: 3"
    assert worker.send(decide(2, payload="call_soon")).receive(Decision) == noop(2, "still here")
    assert worker.send(Ping(nonce=1)).receive(Pong) == Pong(nonce=1)


# --- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way, wait", [("async def", "await "), ("def", "")])
def test_state_requests_travel_and_their_replies_come_back(start: Start, way: str, wait: str) -> None:
    """A get, a compare-and-set that fails and one that succeeds; puts wait for the Decision."""
    worker = start(
        f"""
        {way} decide(self, ctx):
            before = {wait}ctx.state.get("centre", 0)
            lost = {wait}ctx.state.compare_and_set("claim", None, {{"by": ctx.call.id}})
            won = {wait}ctx.state.compare_and_set("claim", {{"b": 1, "a": 2}}, None)
            ctx.state.put("centre", before + 1)
            return Noop(f"{{before}} {{lost}} {{won}}")
        """
    )
    worker.open()
    worker.send(decide(4))
    get = worker.receive(StateGet)
    assert get.key == "centre"
    worker.send(StateReply(request_id=get.request_id, value="41"))
    swap = worker.receive(StateCompareAndSet)
    assert (swap.key, swap.expected, swap.value) == ("claim", None, '{"by":4}')
    worker.send(StateReply(request_id=swap.request_id, value=None, is_swapped=False))
    swap = worker.receive(StateCompareAndSet)
    assert (swap.key, swap.expected, swap.value) == ("claim", '{"a":2,"b":1}', None)
    worker.send(StateReply(request_id=swap.request_id, value=None, is_swapped=True))
    assert worker.receive(Decision) == Decision(
        call_id=4,
        attempt=1,
        outcome=Noop("41 False True"),
        state_writes=(StatePut(key="centre", value="42"),),
    )


def test_replies_find_their_requests_in_any_order(start: Start) -> None:
    """Calls run at once, so do their requests; a reply that nobody asked for is ignored."""
    worker = start("async def decide(self, ctx):\n    return Noop(str(await ctx.state.get(f'k{ctx.call.id}')))")
    worker.open()
    worker.send(*(decide(call_id) for call_id in (1, 2, 3)))
    requests = {request.key: request.request_id for request in (worker.receive(StateGet) for _ in range(3))}
    assert len(set(requests.values())) == 3
    worker.send(StateReply(request_id=max(requests.values()) + 100, value="0"))
    for key in ("k3", "k1", "k2"):
        worker.send(StateReply(request_id=requests[key], value=f'"{key}"'))
        worker.send(StateReply(request_id=requests[key], value='"twice"'))
        assert worker.receive(Decision) == noop(int(key[1]), key)
    worker.send(Ping(nonce=1)).receive(Pong)
    assert worker.logs == []


def test_a_refused_state_request_is_raised_in_decide(start: Start) -> None:
    """With the supervisor's reason; decide may catch it."""
    worker = start(
        """
        async def decide(self, ctx):
            try:
                await ctx.state.get("a")
            except Exception as error:
                ctx.log.warning("caught %s", error)
            await ctx.state.get("b")
        """
    )
    worker.open()
    worker.send(decide())
    for reason in ("the ledger is away", "still away"):
        worker.send(StateRefused(request_id=worker.receive(StateGet).request_id, reason=reason))
    assert worker.receive(DecideFailed).error == "StateError: still away"
    assert [log.message for log in worker.logs] == ["caught the ledger is away"]


def test_a_state_request_that_cannot_be_sent_fails_in_decide(start: Start) -> None:
    """Nothing is asked, nothing waits for an answer."""
    worker = start("async def decide(self, ctx):\n    await ctx.state.get(ctx.call.payload * 300)")
    worker.open()
    assert "a state key is a string" in worker.send(decide(payload="k")).receive(DecideFailed).error


# --- logs ------------------------------------------------------------------------------------------------------------


def test_log_lines_and_logging_records_arrive(start: Start) -> None:
    """`ctx.log` with its call; `logging`, of the plugin and of libraries, with its logger's name and traceback."""
    worker = start(
        """
        logging.getLogger("at.import").warning("imported")
        def __str__(self):
            raise LookupError("no text")
        async def decide(self, ctx):
            ctx.log.info("price %d", 5)
            ctx.log.error("half \\ud83d" + "x" * 5_000)
            logger = logging.getLogger("strategy")
            logger.debug("not shown")
            logger.info("info %s", "line")
            logger.log(35, "between")
            logger.critical("worst")
            logger.info("%d", "wrong placeholder")
            logger.info(self)
            try:
                1 / 0
            except ZeroDivisionError:
                logger.exception("it failed")
            return Noop("quiet")
        """
    )
    worker.open()
    worker.send(decide(6), Stop(grace_ms=10_000))
    logs = worker.logs + [message for message in worker.take_rest() if isinstance(message, LogRecord)]
    *plain, failed = logs
    assert plain[:-2] == [
        LogRecord(level=LogLevel.WARNING, message="at.import: imported"),
        LogRecord(level=LogLevel.INFO, message="price 5", call_id=6),
        LogRecord(level=LogLevel.ERROR, message=("half \\ud83d" + "x" * 5_000)[:4_000], call_id=6),
        LogRecord(level=LogLevel.INFO, message="strategy: info line"),
        LogRecord(level=LogLevel.WARNING, message="strategy: between"),
        LogRecord(level=LogLevel.ERROR, message="strategy: worst"),
    ]
    for unspeakable in plain[-2:]:
        assert "a log line of" in unspeakable.message
        assert "plugin.py" in unspeakable.message
    assert failed.level is LogLevel.ERROR
    assert failed.message.startswith("strategy: it failed\nTraceback (most recent call last):")
    assert failed.message.endswith("ZeroDivisionError: division by zero")


def test_ten_thousand_log_lines_do_not_hold_up_a_decision(start: Start) -> None:
    """The flood of one call delays neither its own answer nor another call's, and every line arrives."""
    worker = start(
        """
        async def decide(self, ctx):
            for number in range(int(ctx.call.payload)):
                ctx.log.info("line %d", number)
            return Noop("logged")
        """
    )
    worker.open()
    worker.send(decide(1, payload="10000"), decide(2, payload="0"))
    assert {worker.receive(Decision).call_id for _ in range(2)} == {1, 2}
    worker.send(Stop(grace_ms=10_000))
    logs = worker.logs + [message for message in worker.take_rest() if isinstance(message, LogRecord)]
    assert [log.message for log in logs] == [f"line {number}" for number in range(10_000)]


def test_lines_beyond_the_bound_are_dropped_and_counted(start: Start) -> None:
    """A supervisor that does not read: the worker's memory stays bounded, and the loss is told when it reads again."""
    worker = start(
        """
        async def decide(self, ctx):
            for number in range(40_000):
                ctx.log.info("line")
            # Lines are sent by the loop, in order: after all of them comes this.
            asyncio.get_running_loop().call_soon(Path(ctx.call.payload).touch)
            return Noop("logged")
        """,
        queue=1_000,
    )
    worker.open()
    marker = worker.directory / "flooded"
    worker.send(decide(1, payload=str(marker)))
    worker.wait_for_file(marker)
    assert worker.receive(Decision) == noop(1, "logged")
    worker.send(Ping(nonce=1)).receive(Pong)
    assert {log.message for log in worker.logs} == {"line"}
    worker.send(Stop(grace_ms=10_000))
    (report,) = worker.take_rest()
    assert isinstance(report, LogRecord)
    assert report.level is LogLevel.WARNING
    dropped, _, text = report.message.partition(" ")
    assert text == "log lines were dropped here: the supervisor did not take them in time"
    assert int(dropped) + len(worker.logs) == 40_000
    assert int(dropped) > 10_000


# --- the end ---------------------------------------------------------------------------------------------------------


def test_stop_ends_an_idle_worker_with_0(start: Start) -> None:
    """At once; a commanded stop is no crash."""
    worker = start("async def decide(self, ctx):\n    return Noop('quiet')")
    worker.open()
    worker.send(Stop(grace_ms=60_000))
    assert worker.wait() == 0
    assert worker.stderr == ""


def test_stop_lets_a_running_call_end(start: Start) -> None:
    """Its answer comes, whole, though the process exits right after it; a call that comes after Stop is not begun."""
    worker = start(
        """
        async def decide(self, ctx):
            await ctx.state.get("go")
            ctx.state.put("much", "v" * 65_000)
            for number in range(13):
                ctx.state.put(f"much{number}", "v" * 65_000)
            return Noop("done")
        """
    )
    worker.open()
    worker.send(decide(1))
    request = worker.receive(StateGet)
    worker.send(Stop(grace_ms=20_000), decide(2), StateReply(request_id=request.request_id, value=None))
    (decision,) = worker.take_rest()
    assert isinstance(decision, Decision)
    assert decision.call_id == 1
    assert len(decision.state_writes) == 14
    assert worker.wait() == 0


def test_a_grace_begins_with_stop(start: Start) -> None:
    """However long the worker has lived; until it is over, pings and state requests are answered as before."""
    worker = start(
        """
        async def decide(self, ctx):
            await asyncio.sleep(float(ctx.call.payload))
            return Noop(await ctx.state.get("answer", "old"))
        """
    )
    worker.open()
    worker.send(decide(1, payload="0.6"))
    worker.send(StateReply(request_id=worker.receive(StateGet).request_id, value=None))
    assert worker.receive(Decision) == noop(1, "old")
    worker.send(decide(2, payload="0"))
    request = worker.receive(StateGet)
    assert worker.send(Stop(grace_ms=500), Ping(nonce=1)).receive(Pong) == Pong(nonce=1)
    worker.send(StateReply(request_id=request.request_id, value='"new"'))
    assert worker.receive(Decision) == noop(2, "new")
    assert worker.wait() == 0


@pytest.mark.parametrize(
    "way, wait", [("async def", "await asyncio.Event().wait()"), ("def", "threading.Event().wait()")]
)
def test_stop_does_not_wait_longer_than_its_grace(start: Start, way: str, wait: str) -> None:
    """A call that does not end is left behind with the process, unanswered."""
    worker = start(f"{way} decide(self, ctx):\n    Path(ctx.call.payload).touch()\n    {wait}")
    worker.open()
    marker = worker.directory / "running"
    worker.send(decide(1, payload=str(marker)))
    worker.wait_for_file(marker)
    worker.send(Stop(grace_ms=50))
    assert worker.wait() == 0
    assert worker.take_rest() == []


@pytest.mark.parametrize(
    "frame, reason",
    [
        (b"garbage", "the supervisor sent a frame that is not a message"),
        (b'{"type":"pong","nonce":1}', "Invalid value 'pong'"),
        (b'{"type":"ping","nonce":1,"more":1}', "unknown field `more`"),
        (
            b'{"type":"refused","reason":"the class is of another vault"}',
            "refused this worker: the class is of another",
        ),
    ],
    ids=["garbage", "wrong direction", "unknown field", "refused"],
)
def test_a_link_that_is_broken_or_refused_ends_the_worker(start: Start, frame: bytes, reason: str) -> None:
    """It says why on stderr, which the supervisor keeps; there is nobody else to tell."""
    worker = start("async def decide(self, ctx):\n    return Noop('quiet')")
    worker.open()
    worker.send_frame(frame)
    assert worker.wait() == 0
    assert reason in worker.stderr


REFUSED = {
    "the file ends before": ("    async def decide(self, ctx", "SyntaxError"),
    "an import is missing": ("    import absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
    "the module exits": ("    sys.exit(5)", "SystemExit: 5"),
    "it does not decide": ("    pass", "PluginError: Tested must define decide(self, ctx)"),
    "its name is none": (
        "    name = 'two words'\n    async def decide(self, ctx): ...",
        "PluginError: Tested.name must be",
    ),
    "a trigger is none": (
        "    triggers = [Cron(every_seconds='NaN')]\n    async def decide(self, ctx): ...",
        "ValueError: every_seconds must be 0.05",
    ),
    "it cannot be made": (
        "    def __init__(self):\n        raise OSError('no model file')\n    async def decide(self, ctx): ...",
        "OSError: no model file",
    ),
    "its text cannot be sent": ("    raise ValueError('half \\ud83d')", "ValueError: half \\ud83d"),
    "its Hello is too large": (
        "    reads = [Read('a', {'x': ['v' * 8_000] * 250})]\n    async def decide(self, ctx): ...",
        "ProtocolError: Hello takes",
    ),
}


@pytest.mark.parametrize("lines, reason", REFUSED.values(), ids=REFUSED)
def test_a_plugin_that_cannot_be_used_is_refused_with_its_reason(start: Start, lines: str, reason: str) -> None:
    """The traceback of the author's code, and the exit code 0: not a crash that a restart could cure."""
    worker = start("", head=HEAD + "    logging.warning('before')\n" + lines + "\n")
    rest = worker.take_rest()
    assert worker.wait() == 0
    refused = rest[-1]
    assert isinstance(refused, Refused)
    assert reason in refused.reason
    if "SyntaxError" not in reason:
        assert rest[0] == LogRecord(level=LogLevel.WARNING, message="root: before")
        assert "plugin.py" in refused.reason or "PluginError" in reason or "ProtocolError" in reason


def test_a_plugin_that_is_not_there_is_refused(short_dir: Path) -> None:
    """As any other that cannot be loaded. (That there is no such module is found at birth.)"""
    with start_worker(short_dir, "zoneinfo:Absent", kind="module") as worker:
        assert "module zoneinfo has no Absent" in worker.receive(Refused).reason
        assert worker.wait() == 0
