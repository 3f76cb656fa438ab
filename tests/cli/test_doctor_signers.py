"""`runnerctl doctor` on wallets whose key is elsewhere: what is looked at here, and what is asked when unlocking."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runnerd.cli.doctor.finding import Finding, Mark
from runnerd.cli.doctor.wallets import examine_wallet
from runnerd.config.model import WalletConfig
from tests.support.kms import ENVIRONMENT, running_kms
from tests.support.remote_signer import ADDRESS, TOKEN, running_signer


def marks(findings: tuple[Finding, ...]) -> dict[str, Mark]:
    """Subject → mark."""
    return {finding.subject: finding.mark for finding in findings}


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    with running_signer() as server:
        yield server.url


def test_a_remote_signer_is_asked_only_when_unlocking(remote: str) -> None:
    """Until then its address is what the configuration says, and that it was not asked is remarked."""
    config = WalletConfig(signer_url=f"{remote}/no-key-all", address=ADDRESS.lower())
    report = examine_wallet(config, is_unlocking=False)
    assert (report.address, report.findings[-1].remedy) == (ADDRESS, "ask it with: runnerctl doctor --unlock")
    assert Mark.BAD not in marks(report.findings).values()
    asked = examine_wallet(config, is_unlocking=True)
    assert marks(asked.findings)["unlock"] is Mark.BAD
    assert f"it has no key of {ADDRESS}" in asked.findings[-1].text
    right = examine_wallet(WalletConfig(signer_url=remote, address=ADDRESS), is_unlocking=True)
    assert (right.findings[-1].mark, right.address) == (Mark.GOOD, ADDRESS)


def test_the_files_of_a_remote_signer_are_looked_at(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a keystore; a token that systemd keeps for the unit cannot be tried here."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    config = WalletConfig(signer_url=f"{remote}/token", address=ADDRESS, signer_token_file=token)
    assert marks(examine_wallet(config, is_unlocking=True).findings) == {
        "signer": Mark.GOOD, "token": Mark.GOOD, "unlock": Mark.GOOD,
    }  # fmt: skip
    token.chmod(0o604)
    loose = examine_wallet(config, is_unlocking=True)
    assert marks(loose.findings) == {"signer": Mark.GOOD, "token": Mark.BAD, "unlock": Mark.BAD}
    assert TOKEN not in " ".join(finding.text + finding.remedy for finding in loose.findings)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    kept = WalletConfig(signer_url=f"{remote}/token", address=ADDRESS, signer_token_credential="token")
    assert marks(examine_wallet(kept, is_unlocking=True).findings)["unlock"] is Mark.WEAK
    bare = examine_wallet(WalletConfig(signer_url=remote, address=ADDRESS), is_unlocking=True)
    assert bare.findings[0].mark is Mark.WEAK


def test_a_key_in_kms_is_asked_only_when_unlocking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the address comes from KMS itself; what KMS refuses is a fault with its remedy."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with running_kms() as server:
        arn = server.create_key()
        report = examine_wallet(WalletConfig(kms_key_id=arn, kms_endpoint_url=server.url), is_unlocking=False)
        assert (marks(report.findings), report.address) == (
            {"KMS key": Mark.GOOD, "boto3": Mark.GOOD, "unlock": Mark.WEAK}, None,
        )  # fmt: skip
        asked = examine_wallet(WalletConfig(kms_key_id=arn, kms_endpoint_url=server.url), is_unlocking=True)
        assert asked.findings[-1].mark is Mark.GOOD
        assert asked.address is not None
        assert asked.address in asked.findings[-1].text
        denied = WalletConfig(kms_key_id=arn, kms_endpoint_url=f"{server.url}/denied-all")
        finding = examine_wallet(denied, is_unlocking=True).findings[-1]
        assert finding.mark is Mark.BAD
        assert "allow kms:GetPublicKey and kms:Sign" in finding.text
