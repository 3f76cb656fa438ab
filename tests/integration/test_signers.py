"""The real daemon with a key that is elsewhere: in AWS KMS, at a remote signer, and at one that cannot be trusted."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runnerd.wallets.kms import open_kms
from tests.support.aio import run_async
from tests.support.kms import ENVIRONMENT, KmsServer, running_kms
from tests.support.leaks import find_descendants
from tests.support.remote_signer import ADDRESS, TOKEN, RemoteServer, running_signer
from tests.support.scene import Scene, Stage, mint, puppet, wait_for
from tests.support.secrets import find_in_files, find_in_ledger, find_in_memory, find_in_processes

pytestmark = pytest.mark.integration

AWS_SECRETS = {
    name: ENVIRONMENT[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
}


@pytest.fixture(scope="module")
def kms() -> Iterator[KmsServer]:
    with running_kms() as server:
        yield server


@pytest.fixture(scope="module")
def signer() -> Iterator[RemoteServer]:
    with running_signer() as server:
        yield server


async def address_of(arn: str, server: KmsServer) -> str:
    key = await open_kms(arn, endpoint_url=server.url)
    await key.close()
    return key.address


def processes_below(scene: Scene) -> dict[int, str]:
    found = find_descendants(scene.daemon.process.pid)
    assert any("worker" in title for title in found.values()), found
    return found


def test_a_key_in_kms_acts_and_its_credentials_go_no_further(
    stage: Stage, kms: KmsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KMS signs, the vault executes; and AWS's variables, which the supervisor was given, are in no environment below
    it, in no log at level debug and in no row."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    arn = kms.create_key()
    operator = run_async(address_of(arn, kms))
    wallet = {"kms_key_id": arn, "kms_endpoint_url": kms.url, "address": operator}
    with stage.scene({"puppet": puppet()}, operator=operator, wallet=wallet) as scene:
        for _ in range(3):
            fired = scene.fire("puppet", do="act", actions=[mint()])
            assert fired.outcome == "acted", fired
            (effect,) = scene.effects_of(fired.call_id)
            receipt = scene.venue.w3.eth.get_transaction_receipt(effect.transaction)  # type: ignore[arg-type]
            assert (effect.transaction, receipt["from"]) == (fired.transaction, operator)

        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as control:  # waits for the end of its stdin
            # The supervisor was started like this one; its own environment is where its title stands now.
            wait_for(lambda: find_in_processes([control.pid], AWS_SECRETS), "a process that has them")
        assert find_in_processes(processes_below(scene), AWS_SECRETS) == {}
        assert find_in_files(scene.directory, AWS_SECRETS) == {}
        assert find_in_ledger(scene.dsn, AWS_SECRETS)[0] == {}
        if os.geteuid() == 0:
            _assert_only_trusted_memory(scene)


def _assert_only_trusted_memory(scene: Scene) -> None:
    """The http process and its zygote are forks of the supervisor, with its first environment; no other is."""
    assert find_in_memory(scene.daemon.process.pid, AWS_SECRETS) == AWS_SECRETS.keys()
    for pid, title in processes_below(scene).items():
        if title not in ("runnerd: http", "runnerd: http zygote"):
            assert find_in_memory(pid, AWS_SECRETS) == set(), title


def test_a_remote_key_acts_and_its_token_goes_no_further(stage: Stage, signer: RemoteServer, tmp_path: Path) -> None:
    """The signer signs what was asked, the vault executes; the token is in its own file and the supervisor alone."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN + "\n")
    secret = {"token": TOKEN.encode()}
    wallet = {"signer_url": f"{signer.url}/token", "address": ADDRESS, "signer_token_file": token}
    with stage.scene({"puppet": puppet()}, operator=ADDRESS, wallet=wallet) as scene:
        for _ in range(3):
            fired = scene.fire("puppet", do="act", actions=[mint()])
            assert fired.outcome == "acted", fired
            assert len(scene.effects_of(fired.call_id)) == 1

        assert find_in_files(scene.directory, secret) == {}
        assert find_in_files(tmp_path, secret) == {token: {"token"}}
        assert find_in_ledger(scene.dsn, secret)[0] == {}
        assert find_in_processes([scene.daemon.process.pid, *processes_below(scene)], secret) == {}
        if os.geteuid() == 0:
            assert find_in_memory(scene.daemon.process.pid, secret) == {"token"}
            for pid, title in processes_below(scene).items():
                assert find_in_memory(pid, secret) == set(), title


@pytest.mark.parametrize(
    "mode, reason",
    [
        ("other-to", f"and it was not used: to is 0x{'99' * 20}, asked was 0x"),
        ("high-s", "and it was not used: s is in the upper half, which EIP-2 forbids"),
    ],
)
def test_nothing_of_a_signer_that_tampers_reaches_the_chain(
    stage: Stage, signer: RemoteServer, mode: str, reason: str
) -> None:
    """The call ends with what differs; no nonce is used, nothing is stored as signed, the plugin goes on."""
    wallet = {"signer_url": f"{signer.url}/{mode}", "address": ADDRESS}
    with stage.scene({"puppet": puppet()}, operator=ADDRESS, wallet=wallet) as scene:
        before = scene.venue.w3.eth.get_transaction_count(ADDRESS, "pending")  # type: ignore[arg-type]
        fired = scene.fire("puppet", do="act", actions=[mint()])

        assert fired.outcome == "failed", fired
        assert (fired.reason or "").startswith("not signed: signer http://127.0.0.1:")
        assert reason in (fired.reason or "")
        assert scene.rows("select * from attempts") == []
        assert scene.effects() == []
        assert scene.venue.w3.eth.get_transaction_count(ADDRESS, "pending") == before  # type: ignore[arg-type]
        assert scene.fire("puppet", do="noop", reason="still here").outcome == "noop"


def test_a_call_waits_while_the_signer_is_busy_and_expires(stage: Stage, signer: RemoteServer) -> None:
    """A transient refusal ends nothing before the intent's deadline, and is in the log."""
    wallet = {"signer_url": f"{signer.url}/busy", "address": ADDRESS}
    with stage.scene({"puppet": puppet(intent_deadline_s=2.0)}, operator=ADDRESS, wallet=wallet) as scene:
        fired = scene.fire("puppet", do="act", actions=[mint()])

        assert fired.outcome == "expired"
        assert str(fired.reason).startswith("its deadline passed before it could be signed: ")
        (first, *more) = scene.log("intent_waits")
        assert "HTTP 503" in first["message"]
        assert more, "it is asked again"


def test_a_signer_without_the_key_keeps_runnerd_from_starting(stage: Stage, signer: RemoteServer) -> None:
    """With a word of which one it is, and exit code 1."""
    wallet = {"signer_url": f"{signer.url}/no-key-all", "address": ADDRESS}
    with stage.scene({"puppet": puppet()}, operator=ADDRESS, wallet=wallet, start=False) as scene:
        scene.start_unready()
        assert wait_for(scene.daemon.process.poll, "its end") == 1
        (failed,) = scene.log("start_failed")
        assert f"it has no key of {ADDRESS}" in failed["message"]
