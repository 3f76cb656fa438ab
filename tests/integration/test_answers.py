"""Answers on chain: a contract asks by a log, a plugin decides, and the vault answers that contract, exactly once."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from tests.support.contracts import deploy, load_artifact
from tests.support.crash_page import CrashPage, create_page, open_page
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USUAL, ASKED = 200_000, 300_000
TABLES = """
[vaults.demo.actions.answer]
contract = "{oracle}"
function = "setSpot(uint256 price)"

[consumers.answers]
kind = "submit"
plugin = "oracle"
action = "answer"
arguments = {{ price = "$log.args.previous" }}
"""


class Oracle:
    """A market that the owner moves to ASKED, and that the vault, its keeper, sets back to what it was: the answer."""

    def __init__(self, scene: Scene) -> None:
        venue = scene.venue
        self._venue = venue
        address = deploy(venue.w3, "RangeMarket", USUAL, venue.vault.address)
        self.market = venue.w3.eth.contract(address, abi=load_artifact("RangeMarket")["abi"])
        venue.send(venue.vault.functions.setAllowed(address, Web3.keccak(text="setSpot(uint256)")[:4], True))

    def ask(self) -> None:
        """As a contract asks: by a log."""
        self._venue.send(self.market.functions.setSpot(ASKED))

    def answers(self) -> list[str]:
        """Transactions of the vault that answered."""
        logs = self.market.events.SpotMoved().get_logs(from_block=0)
        return [log["transactionHash"].to_0x_hex() for log in logs if log["args"]["current"] == USUAL]

    @property
    def trigger(self) -> dict[str, object]:
        """What its requests are."""
        event = "SpotMoved(uint256 previous, uint256 current)"
        return {"kind": "log", "addresses": [self.market.address], "event": event, "where": {"current": ASKED}}


def answers_of(scene: Scene) -> list[dict[str, Any]]:
    """The calls that answer others, as they stand in the ledger."""
    return scene.rows("select * from job_calls where trigger = 'answer' order by id")


def test_a_log_is_answered_once_over_kills_and_nobody_else_is(stage: Stage, tmp_path: Path) -> None:
    """Killed just before and just after the answer was stored; by hand nobody gets one, with the very same payload."""
    page_file = tmp_path / "page"
    create_page(page_file)
    command = [sys.executable, "-m", "tests.support.crashing_daemon", "--page", str(page_file)]
    with open_page(page_file) as page, stage.scene({}, start=False, command=command) as scene:
        oracle = Oracle(scene)
        plugin = puppet(vault="demo", triggers=[oracle.trigger])
        lines = "\n".join(f"{key} = {_toml(value)}" for key, value in plugin.items())
        scene.config.write_text(
            scene.config.read_text() + TABLES.format(oracle=oracle.market.address) + f"[plugins.oracle]\n{lines}\n"
        )
        scene.start("oracle")
        wait_for(lambda: scene.log("chain_trigger_follows"), "the trigger")

        for number, point in enumerate(["decision.storing", "decision.stored"], 1):
            ask_and_die(scene, oracle, page, point)
            scene.start("oracle")
            wait_for(lambda n=number: len(oracle.answers()) == n, f"the answer after {point}")  # type: ignore[misc]

        (asked, *_) = scene.rows("select * from job_calls where trigger = 'log' order by id")
        by_hand = scene.fire("oracle", **json.loads(asked["payload"]))
        assert by_hand.outcome == "noop"
        oracle.ask()
        wait_for(lambda: len(answers_of(scene)) == 3 and answers_of(scene)[-1]["outcome"], "the control: a log again")

        calls = scene.rows("select * from job_calls where trigger = 'log' order by id")
        answers = answers_of(scene)
        assert [json.loads(answer["payload"])["answers"] for answer in answers] == [call["id"] for call in calls]
        assert by_hand.call_id not in [call["id"] for call in calls]
        assert {(one["outcome"], one["principal"]) for one in answers} == {("acted", "consumer:answers")}
        transactions = scene.rows("select a.hash from attempts a join intents using (call_id) where is_success")
        assert sorted(oracle.answers()) == sorted(row["hash"] for row in transactions)
        assert len(oracle.answers()) == 3
        executed = [effect.transaction for effect in scene.effects()]
        assert sorted(executed) == sorted(oracle.answers()), "by the vault, in batches of its own"
        assert scene.rows("select * from dead_letters") == []
        assert [run.trigger for run in scene.runs("oracle", limit=2)] == ["answer", "log"]


def ask_and_die(scene: Scene, oracle: Oracle, page: CrashPage, point: str) -> None:
    """The contract asks, and the daemon dies at `point`, which nothing but the answer reaches."""
    page.arm(point, 1)
    oracle.ask()
    wait_for(lambda: page.killed_at == point, f"the kill at {point}")
    scene.kill()


def _toml(value: object) -> str:
    match value:
        case list():
            return "[" + ", ".join(_toml(each) for each in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
        case _:
            return json.dumps(value)
