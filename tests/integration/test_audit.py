"""The audit trail of a real daemon: it verifies while the daemon runs, and names what was changed behind its back."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runnerd import __version__
from runnerd.control.messages import Pause, Restart, Resume
from tests.integration.test_safe import council
from tests.support.published import Chain, deploy_safe_kit
from tests.support.scene import Scene, Stage, mint, puppet

pytestmark = pytest.mark.integration

RUNNERCTL = Path(sys.executable).with_name("runnerctl")


def test_everything_that_was_done_is_in_the_trail_and_tampering_is_named(stage: Stage) -> None:
    """Act, noop, denial, failure, pause, restart of the daemon: verified each time; then one body is changed."""
    with stage.scene({"puppet": puppet()}) as scene:
        acted = scene.fire("puppet", do="act", actions=[mint()])
        rested = scene.fire("puppet", do="noop", reason="too \x1b[2J thin")
        denied = scene.fire("puppet", do="act", actions=[mint(strike=1)])
        scene.daemon.ask(Pause(scope="vault", name="demo"))
        paused = scene.fire("puppet", do="noop")
        scene.daemon.ask(Resume(scope="vault", name="demo"))
        scene.daemon.ask(Restart(plugin="puppet"))
        assert [fired.outcome for fired in (acted, rested, denied, paused)] == ["acted", "noop", "denied", "denied"]

        code, verdict = verify(scene)
        assert (code, verdict["findings"]) == (0, [])
        assert verdict["compared"] == {
            "decisions": 3, "intents": 1, "signatures": 0, "attempts": 1, "fillers": 0, "settled transactions": 1,
            "results": 4,
        }  # fmt: skip
        head = verdict["head"]
        records = export(scene)
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert kinds_of(records, acted.call_id) == ["decision", "planned", "attempt", "included", "final", "result"]
        assert kinds_of(records, rested.call_id) == ["decision", "result"]
        assert kinds_of(records, denied.call_id) == ["decision", "denial", "result"]
        assert kinds_of(records, paused.call_id) == ["denial", "result"]
        (attempt,) = [record["body"] for record in records if record["kind"] == "attempt"]
        assert attempt["hash"] == acted.transaction
        (rule,) = [r["body"]["rule"] for r in records if r["kind"] == "denial" and r["call_id"] == denied.call_id]
        assert "strike = 1 is below min = 1000" in rule
        commands = [record["body"] for record in records if record["kind"] == "command"]
        assert [body["command"] for body in commands] == [
            "fire", "fire", "fire", "pause", "fire", "resume", "restart"
        ]  # fmt: skip
        assert all(body["principal"].startswith("uid:") for body in commands)
        assert [record["body"]["version"] for record in records if record["kind"] == "started"] == [__version__]

        assert scene.stop() == 0
        scene.start("puppet")
        code, verdict = verify(scene, "--head", head)
        assert (code, verdict["findings"], verdict["known_head_at"]) == (0, [], len(records))
        later = [record["kind"] for record in export(scene)[len(records) :]]
        assert later == ["stopped", "started"]
        logged = [record["head"] for record in scene.log("audit_head")]
        assert len(logged) >= 1
        assert verdict["head"] == logged[-1]

        with psycopg.connect(scene.dsn, autocommit=True) as connection:
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only"):
                connection.execute("delete from audit_records")
            connection.execute("alter table audit_records disable trigger audit_append_only")
            connection.execute(
                "update audit_records set body = replace(body, '\"noop\"', '\"acted\"') where key = %s",
                (f"result:{rested.call_id}",),
            )
        code, verdict = verify(scene)
        seq = next(record["seq"] for record in records if record["key"] == f"result:{rested.call_id}")
        assert code == 1
        assert [finding["seq"] for finding in verdict["findings"]] == [seq, seq]
        assert verdict["findings"][0]["what"].startswith(f"record {seq} (result:{rested.call_id}) was changed")
        assert verdict["findings"][1]["what"].startswith(
            f"the result of call {rested.call_id} is not as in record {seq}"
        )


def test_what_the_owners_of_a_safe_did_is_in_the_trail(stage: Stage) -> None:
    """A signature with who brought it, the calldata that it completed, a rejection; and all of it verifies as whole."""
    chain = Chain(stage.node)
    with council(stage, chain, deploy_safe_kit(chain), 2) as safe:
        acted = safe.ask(mint())
        proposal = safe.wait_proposal(acted, "collecting")
        assert safe.sign("ada", acted).returncode == 0
        assert safe.scene.wait_run(acted).outcome == "acted"
        rejected = safe.ask(mint())
        safe.wait_proposal(rejected, "collecting")
        assert safe.runnerctl("reject", str(rejected)).returncode == 0
        safe.scene.wait_run(rejected)

        code, verdict = verify(safe.scene)
        assert (code, verdict["findings"]) == (0, [])
        assert (verdict["compared"]["intents"], verdict["compared"]["signatures"]) == (2, 1)
        records = export(safe.scene)
        assert kinds_of(records, acted) == [
            "decision", "planned", "signature", "completed", "attempt", "included", "final", "result"
        ]  # fmt: skip
        (signature,) = [record["body"] for record in records if record["kind"] == "signature"]
        uid = f"uid:{os.getuid()}"
        assert (signature["principal"], signature["owner"]) == (uid, safe.addresses["ada"])
        assert signature["safe_tx_hash"] == proposal.safe_tx_hash
        commands = [record["body"] for record in records if record["kind"] == "command"]
        assert commands[-1] == {"command": "safe reject", "principal": uid, "call": rejected}

        safe.scene.rows("update intents set calldata = 'x' where call_id = %s returning 1", acted)
        code, verdict = verify(safe.scene)
        (found,) = verdict["findings"]
        assert (code, found["what"].startswith(f"the intent of call {acted} is not as in record")) == (1, True)


def kinds_of(records: list[dict[str, Any]], call_id: int) -> list[str]:
    """What the trail says of a call, in its order."""
    return [record["kind"] for record in records if record["call_id"] == call_id]


def verify(scene: Scene, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict."""
    done = run(scene, "verify", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def export(scene: Scene) -> list[dict[str, Any]]:
    """All records."""
    done = run(scene, "export")
    assert done.returncode == 0, done
    assert done.stdout.isascii()
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(scene: Scene, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(RUNNERCTL), "--config", str(scene.config), "audit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
