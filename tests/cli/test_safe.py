"""`runnerctl safe`: what owners see before they sign, and how a key is read. The rest: tests/integration/test_safe."""

from datetime import timedelta
from pathlib import Path

import pytest

from runnerd.chain.address import checksum_address
from runnerd.chain.vault import Call
from runnerd.chain.vaults.multisend import Operation, encode_multi_send
from runnerd.chain.vaults.safe_tx import SafeTx
from runnerd.cli.exits import ExitCode
from runnerd.control.messages import Done, Reply, Request
from runnerd.control.safe_messages import GetProposals, Proposal, Proposals, SignProposal
from runnerd.wallets.keystore import create_keystore
from runnerd.wallets.passphrase import Passphrase
from tests.cli.running import invoke, run_spied
from tests.cli.samples import NOW
from tests.support.fake_daemon import fake_daemon

SAFE, TARGET, MULTISEND = (checksum_address("0x" + digit * 40) for digit in "123")
ROUNDED_WEI = 1_000_004_999 * 10**9
EXACT = "1 ether (1,000,004,999,000,000,000 wei)"


def proposal(*, to: str = TARGET, value_wei: int = 0, data: bytes = b"", operation: int = Operation.CALL) -> Proposal:
    """One that waits for its owners."""
    transaction = SafeTx(
        chain_id=31337, safe=SAFE, to=to, value_wei=value_wei, data=data, operation=Operation(operation), nonce=5
    )
    return Proposal(
        call_id=7, plugin="quiet", vault="main", chain_id=31337, safe=SAFE, state="collecting",
        deadline_at=NOW + timedelta(minutes=10), operator=SAFE, threshold=2, owners=[SAFE, TARGET], signed_by=[SAFE],
        safe_nonce=5, safe_tx_hash="0x" + transaction.hash.hex(), to=to, value_wei=value_wei,
        data="0x" + data.hex(), operation=operation,
    )  # fmt: skip


BATCH = encode_multi_send([Call(to=TARGET, value_wei=ROUNDED_WEI, data=b"\x01")] * 2)


@pytest.mark.parametrize(
    "shown, lines",
    [
        (proposal(value_wei=ROUNDED_WEI), [f"value        {EXACT}"]),
        (
            proposal(to=MULTISEND, data=BATCH, operation=Operation.DELEGATE_CALL),
            ["value        0", *(f"call {i}       {TARGET} with {EXACT}: 0x01" for i in (1, 2))],
        ),
    ],
)
def test_every_amount_is_shown_to_the_last_wei(socket: Path, shown: Proposal, lines: list[str]) -> None:
    """Six digits would hide what somebody adds behind them, and the hash is of the whole amount."""
    with fake_daemon(socket, lambda _: Proposals(proposals=[shown])) as daemon:
        result = invoke("--socket", str(daemon.path), "safe", "show", "7")
    assert result.exit_code == ExitCode.DONE
    seen = [line.strip() for line in result.stdout.splitlines()]
    assert [line for line in lines if line not in seen] == []


@pytest.mark.integration
def test_memory_is_protected_before_the_owners_key_is_read(socket: Path, tmp_path: Path) -> None:
    """As in the daemon: no core file, and no debugger of this user."""
    keystore, secret = tmp_path / "ada.json", tmp_path / "ada.passphrase"
    create_keystore(keystore, Passphrase(b"together"), kdf_work=2)
    secret.touch(0o600)
    secret.write_text("together\n")

    def answer(request: Request) -> Reply:
        return Proposals(proposals=[proposal()]) if isinstance(request, GetProposals) else Done(text="taken")

    with fake_daemon(socket, answer) as daemon:
        arguments = ("safe", "sign", "7", "--keystore", str(keystore), "--passphrase-file", str(secret), "--yes")
        opened = run_spied("--socket", str(daemon.path), *arguments, secrets=[keystore, secret])
        assert opened == {str(keystore): True, str(secret): True}
        assert isinstance(daemon.requests[-1], SignProposal)
