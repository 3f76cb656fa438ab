"""What a plugin is given to decide on."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.support.scene import Scene, mint, wait_for

pytestmark = pytest.mark.integration


def test_the_context_holds_call_time_block_vault_and_params(house: Scene) -> None:
    """All of `ctx` arrives in the worker as the configuration, the ledger and the chain have it."""
    fired = house.fire("puppet", do="show_context")
    context = house.state("puppet", "context")

    call = context["call"]
    assert (call["id"], call["attempt"], call["trigger"], call["topic"]) == (fired.call_id, 1, "manual", None)
    assert msgspec.json.decode(call["payload"]) == {"do": "show_context"}
    assert abs(datetime.fromisoformat(context["now"]) - datetime.now(UTC)) < timedelta(seconds=10)
    assert datetime.fromisoformat(call["due_at"]) <= datetime.fromisoformat(context["now"])
    assert context["params"] == {"size": 5, "pairs": ["a", "b"]}
    assert context["vault"] == {
        "name": "demo",
        "address": house.venue.vault.address,
        "chain_id": 31337,
        "actions": ["mint_binary", "mint_range"],
    }
    block = house.venue.w3.eth.get_block(context["block"]["number"])
    assert (context["block"]["hash"], context["block"]["timestamp"]) == (block["hash"].to_0x_hex(), block["timestamp"])


def test_all_reads_are_of_the_named_block(house: Scene) -> None:
    """The price and the number of positions are those of `ctx.block`, though both changed since the last call."""
    house.venue.send(house.venue.market.functions.setSpot(201_234))
    house.fire("puppet", do="show_context")
    context = house.state("puppet", "context")
    house.venue.send(house.venue.market.functions.setSpot(200_000))

    assert context["reads"]["spot"] == 201_234
    events = house.venue.market.events
    until = context["block"]["number"]
    minted = [event().get_logs(from_block=0, to_block=until) for event in (events.BinaryMinted, events.RangeMinted)]
    assert context["reads"]["positions"] == sum(map(len, minted))


def test_the_ledger_keeps_the_context_for_replay(house: Scene) -> None:
    """What decide was given stands in the ledger byte for byte: whoever asks why can decide again."""
    fired = house.fire("puppet", do="show_context")
    given = house.state("puppet", "context")

    (row,) = house.rows("select context, digest from decisions where call_id = %s", fired.call_id)
    kept = msgspec.json.decode(row["context"])
    assert {name: kept[name] for name in ("call", "now", "block", "vault", "reads")} == {
        name: given[name] for name in ("call", "now", "block", "vault", "reads")
    }
    assert row["digest"].startswith("sha256:")


def test_what_a_plugin_says_is_logged_under_its_name(house: Scene) -> None:
    """ctx.log, print and stderr all end up in the operator's log, with plugin and, for ctx.log, the call."""
    fired = house.fire("puppet", do="say", text="hello from inside")

    def find_records() -> dict[str, Any]:
        return {record["message"]: record for record in house.log() if "hello from inside" in record["message"]}

    wanted = {f"hello from inside by {way}" for way in ("ctx.log", "print", "stderr")}
    wait_for(lambda: find_records().keys() >= wanted, "all three")  # what a plugin says has no hurry
    records = find_records()
    assert set(records) == wanted
    assert {record["plugin"] for record in records.values()} == {"puppet"}
    assert records["hello from inside by ctx.log"]["call"] == fired.call_id


def test_every_line_of_the_log_is_json_with_an_action(house: Scene) -> None:
    """Each record, whoever wrote it, is one object with time, level, logger, message and a stable action."""
    house.fire("puppet", do="act", actions=[mint()])

    lines = house.daemon.log.read_text("utf-8").splitlines()
    for line in lines:
        record = json.loads(line)
        assert record.keys() >= {"time", "level", "logger", "message"}, line
        assert record.get("action"), line
        assert datetime.fromisoformat(record["time"]).tzinfo is not None
    assert len(lines) > 10
