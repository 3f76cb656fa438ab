"""A Safe as the vault of the real daemon: alone with one signature, and together with people with two."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runnerd.chain.vaults.multisend import OneCall, Operation
from runnerd.chain.vaults.safe_tx import SafeTx, assemble, encode_exec
from runnerd.control.safe_messages import GetProposals, Proposal, Proposals
from runnerd.wallets.keystore import create_keystore, unlock_owner
from runnerd.wallets.passphrase import Passphrase
from tests.support.published import Chain, SafeKit, create_safe, deploy_safe_kit
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

RUNNERCTL = Path(sys.executable).with_name("runnerctl")
PEOPLE = ("ada", "ben", "eve")


@pytest.fixture(scope="module")
def chain(stage: Stage) -> Chain:
    return Chain(stage.node)


@pytest.fixture(scope="module")
def kit(chain: Chain) -> SafeKit:
    return deploy_safe_kit(chain)


class Council:
    """A Safe and its runnerd. The operator is an owner, and so are ada and ben; eve is not."""

    def __init__(self, scene: Scene, chain: Chain, kit: SafeKit, threshold: int) -> None:
        self.scene = scene
        self.chain = chain
        self.kit = kit
        passphrase = scene.directory / "people"
        passphrase.touch(mode=0o600)
        passphrase.write_text("together\n")
        self.addresses = {
            name: create_keystore(self.keystore(name), Passphrase(b"together"), kdf_work=2) for name in PEOPLE
        }
        owners = [scene.venue.operator, self.addresses["ada"], self.addresses["ben"]]
        self.safe = create_safe(chain, kit, owners[: 3 if threshold > 1 else 1], threshold)
        adapter = "safe_multisig" if threshold > 1 else "safe"
        text = scene.config.read_text()
        ours = f'address = "{scene.venue.vault.address}"'
        assert ours in text
        new = f'address = "{self.safe}"\nadapter = "{adapter}"\nmultisend = "{kit.multisend}"'
        scene.config.write_text(text.replace(ours, new))
        scene.start("puppet")

    def keystore(self, name: str) -> Path:
        """A person's key."""
        return self.scene.directory / f"{name}.json"

    def staked(self) -> int:
        """What the Safe has staked at the market."""
        return int.from_bytes(self.chain.view(self.scene.venue.market.address, "stakeOf(address)", self.safe))

    def nonce(self) -> int:
        """The Safe's own."""
        return int.from_bytes(self.chain.view(self.safe, "nonce()"))

    def ask(self, *actions: object) -> int:
        """Let the plugin act; the call's number. Once it stands among the proposals: Decisions queue as they come."""
        call_id = self.scene.fire("puppet", wait_s=0, do="act", actions=list(actions)).call_id
        wait_for(lambda: call_id in self.proposals(), f"a proposal of call {call_id}")
        return call_id

    def proposals(self) -> dict[int, Proposal]:
        """By call."""
        reply = self.scene.daemon.ask(GetProposals())
        assert isinstance(reply, Proposals)
        return {proposal.call_id: proposal for proposal in reply.proposals}

    def wait_proposal(self, call_id: int, state: str) -> Proposal:
        """When it is in a state."""
        return wait_for(
            lambda: next((p for p in self.proposals().values() if p.call_id == call_id and p.state == state), None),
            f"call {call_id} {state}",
        )

    def runnerctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`runnerctl safe …`."""
        command = [str(RUNNERCTL), "--socket", str(self.scene.daemon.socket), "safe", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False
        )

    def sign(self, name: str, call_id: int) -> "subprocess.CompletedProcess[str]":
        """A person signs at this machine."""
        secret = str(self.scene.directory / "people")
        keystore = str(self.keystore(name))
        return self.runnerctl("sign", str(call_id), "--keystore", keystore, "--passphrase-file", secret, "--yes")

    def signature(self, name: str, safe_tx: SafeTx) -> bytes:
        """The same, elsewhere."""
        return unlock_owner(self.keystore(name), Passphrase(b"together")).sign_safe_tx(safe_tx)


@contextmanager
def council(stage: Stage, chain: Chain, kit: SafeKit, threshold: int, **plugin: object) -> Iterator[Council]:
    """A daemon whose only vault is a Safe."""
    with stage.scene({"puppet": puppet(call_deadline_s=600, **plugin)}, start=False) as scene:
        yield Council(scene, chain, kit, threshold)


def test_safe_of_the_operator_alone_acts_like_any_vault(stage: Stage, chain: Chain, kit: SafeKit) -> None:
    """Two actions are one transaction of the Safe, and one action as well; what would revert is denied."""
    with council(stage, chain, kit, 1) as safe:
        two = safe.scene.fire("puppet", do="act", actions=[mint(), mint(strike=201_000)])
        assert two.outcome == "acted", two
        assert safe.staked() == 2 * 10**15
        one = safe.scene.fire("puppet", do="act", actions=[mint()])
        assert one.outcome == "acted"
        assert safe.nonce() == 2
        assert safe.staked() == 3 * 10**15
        # More than the Safe has: the catalogue allows it, the chain does not.
        safe.chain.anvil.rpc("anvil_setBalance", safe.safe, "0x0")
        broke = safe.scene.fire("puppet", do="act", actions=[mint(), mint()])
        assert broke.outcome == "failed"
        assert "simulation at block" in (broke.reason or "")


def test_two_owners_carry_out_what_the_bot_proposes(stage: Stage, chain: Chain, kit: SafeKit) -> None:
    """Nothing is sent with one signature; strangers, duplicates and other hashes are refused; a restart loses none."""
    with council(stage, chain, kit, 3) as safe:
        call_id = safe.ask(mint(), mint(strike=201_000))
        proposal = safe.wait_proposal(call_id, "collecting")
        assert (proposal.threshold, proposal.signed_by) == (3, [safe.scene.venue.operator])
        assert f"call {call_id}" in safe.runnerctl("list").stdout
        shown = safe.runnerctl("show", str(call_id)).stdout
        for part in (proposal.safe_tx_hash, safe.safe, safe.kit.multisend, safe.addresses["ada"], "has not signed"):
            assert str(part) in shown

        stranger = safe.sign("eve", call_id)
        assert stranger.returncode == 1
        assert f"{safe.addresses['eve']}, who is no owner of the Safe" in stranger.stderr
        first = safe.sign("ada", call_id)
        assert (first.returncode, "2 of 3 signatures" in first.stdout) == (0, True), first
        assert "has signed this transaction already" in safe.sign("ada", call_id).stderr
        assert safe.staked() == 0
        assert safe.scene.transactions() == []

        safe.scene.kill()
        safe.scene.start("puppet")
        again = safe.wait_proposal(call_id, "collecting")
        assert again.safe_tx_hash == proposal.safe_tx_hash
        # Whose signatures count is asked of the Safe first.
        wait_for(
            lambda: safe.addresses["ada"] in safe.wait_proposal(call_id, "collecting").signed_by,
            "it counts after a restart",
        )

        other = SafeTx(
            chain_id=1, safe=safe.safe, to=safe.safe, value_wei=0, data=b"", operation=Operation.CALL, nonce=9
        )
        file = safe.scene.directory / "ben.signature"
        file.write_text("0x" + safe.signature("ben", other).hex())
        assert (
            "is no owner of the Safe: or it is of another transaction"
            in safe.runnerctl("import", str(call_id), str(file)).stderr
        )
        file.write_text(safe.signature("ben", safe_tx_of(again)).hex() + "\n")
        assert safe.runnerctl("import", str(call_id), str(file)).returncode == 0
        assert safe.scene.wait_run(call_id).outcome == "acted"
        assert (safe.staked(), safe.nonce()) == (2 * 10**15, 1)
        assert safe.proposals() == {}


def test_proposals_of_a_safe_wait_in_order_and_end_with_a_reason(stage: Stage, chain: Chain, kit: SafeKit) -> None:
    """One at a time, so that no nonce of the Safe is asked for twice: rejected, overtaken, carried out elsewhere."""
    with council(stage, chain, kit, 2) as safe:
        first, second = safe.ask(mint()), safe.ask(mint(strike=201_000))
        third, fourth = safe.ask(mint(strike=202_000)), safe.ask(mint(strike=203_000))
        safe.wait_proposal(first, "collecting")
        safe.wait_proposal(second, "waiting")
        too_early = safe.sign("ada", second)
        assert too_early.returncode == 1
        assert "waits for the proposal before it" in too_early.stderr

        assert safe.runnerctl("reject", str(first)).returncode == 0
        ended = safe.scene.wait_run(first)
        assert ended.outcome == "denied"
        assert (ended.reason or "").startswith("rejected by uid:")

        # Somebody else's transaction takes the nonce that the second one was to have.
        safe.wait_proposal(second, "collecting")
        theirs = OneCall(to=safe.addresses["eve"], value_wei=5, data=b"", operation=Operation.CALL)
        send_elsewhere(safe, theirs, nonce=0)
        overtaken = safe.scene.wait_run(second)
        assert overtaken.outcome == "failed"
        assert "the Safe's nonce moved on to 1: another transaction took 0" in (overtaken.reason or "")

        # The owners carry the third one out themselves: the effect is there, once, and the call says so.
        proposal = safe.wait_proposal(third, "collecting")
        safe_tx = safe_tx_of(proposal)
        call = OneCall(to=safe_tx.to, value_wei=safe_tx.value_wei, data=safe_tx.data, operation=safe_tx.operation)
        transaction = send_elsewhere(safe, call, nonce=1)
        done = safe.scene.wait_run(third)
        assert (done.outcome, safe.staked()) == ("acted", 10**15)
        assert "sent by somebody else" in (done.reason or "")
        assert done.intent_state == "final"
        assert transaction

        assert safe.wait_proposal(fourth, "collecting").safe_nonce == 2
        assert safe.sign("ben", fourth).returncode == 0
        assert safe.scene.wait_run(fourth).outcome == "acted"
        assert safe.staked() == 2 * 10**15


def test_proposal_that_finds_no_signatures_expires(stage: Stage, chain: Chain, kit: SafeKit) -> None:
    """At its deadline, with how many there were; nothing was signed by the operator."""
    with council(stage, chain, kit, 2) as safe:
        call_id = safe.ask(mint())
        safe.wait_proposal(call_id, "collecting")
        safe.scene.stop()
        safe.scene.rows("update job_calls set deadline_at = now() where id = %s returning 1", call_id)
        safe.scene.rows("update safe_proposals set deadline_at = now() where call_id = %s returning 1", call_id)
        safe.scene.start("puppet")
        ended = safe.scene.wait_run(call_id)
        assert ended.outcome == "expired"
        assert "1 of 2 signatures" in (ended.reason or "")
        assert safe.scene.transactions() == []


def safe_tx_of(proposal: Proposal) -> SafeTx:
    """What an owner's own tool would make of what is shown."""
    assert proposal.safe_nonce is not None
    return SafeTx(
        chain_id=proposal.chain_id, safe=proposal.safe, to=proposal.to, value_wei=proposal.value_wei,
        data=bytes.fromhex(proposal.data[2:]), operation=Operation(proposal.operation), nonce=proposal.safe_nonce,
    )  # fmt: skip


def send_elsewhere(safe: Council, call: OneCall, nonce: int) -> str:
    """Ada and ben sign and send a transaction of the Safe without runnerd: its hash."""
    safe_tx = SafeTx(
        chain_id=31_337, safe=safe.safe, to=call.to, value_wei=call.value_wei, data=call.data,
        operation=call.operation, nonce=nonce,
    )  # fmt: skip
    signatures = {safe.addresses[name]: safe.signature(name, safe_tx) for name in ("ada", "ben")}
    receipt = safe.chain.send(encode_exec(call, assemble(signatures)), safe.safe)
    assert receipt["status"] == "0x1"
    return str(receipt["transactionHash"])
