"""`runnerctl routes`: a line for each route, with the limits that hold there."""

import json
from pathlib import Path

from runnerd.cli.exits import ExitCode
from runnerd.control.route_messages import RouteStatus
from tests.cli.running import invoke
from tests.cli.samples import status
from tests.support.fake_daemon import fake_daemon

ROUTES = [
    RouteStatus(kind="always", source="event; topics trades", plugin="auditor", job="audit", parallel=3),
    RouteStatus(
        kind="trigger", source="every 5 s", plugin="maker", job="decide", parallel=16, max_calls_per_s=50,
        decide_deadline_s=0.5, call_deadline_s=60.0,
    ),
]  # fmt: skip


def test_routes_are_a_table(socket: Path) -> None:
    """A limit that there is not is a dash."""
    with fake_daemon(socket, lambda _: status(routes=ROUTES)):
        result = invoke("--socket", str(socket), "routes", columns=120)
        as_json = invoke("--socket", str(socket), "routes", "--json")
    assert result.exit_code == ExitCode.DONE
    head, first, second = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert head == ["PLUGIN", "JOB", "ROUTE", "OF", "PARALLEL", "CALLS/S", "DECIDE", "DEADLINE"]
    assert first == ["auditor", "audit", "always", "event;", "topics", "trades", "3", "–", "–", "–"]
    assert second == ["maker", "decide", "trigger", "every", "5", "s", "16", "50", "0.5", "s", "60", "s"]
    assert [route["kind"] for route in json.loads(as_json.stdout)] == ["always", "trigger"]
