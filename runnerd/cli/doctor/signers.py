"""A wallet whose key is in AWS KMS or at a remote signer: what it needs here, and, when unlocking, who it says it is.

Nothing is ever signed for it.
"""

import asyncio
import os
from importlib.util import find_spec

from runnerd.chain.address import checksum_address
from runnerd.chain.node_url import parse_node_url
from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.cli.doctor.secret_file import NO_START, examine_secret
from runnerd.config.model import WalletConfig
from runnerd.runner.unlock import open_signer
from runnerd.wallets.errors import WalletError
from runnerd.wallets.passphrase import CREDENTIALS_VARIABLE


def examine_signer(config: WalletConfig, *, is_unlocking: bool) -> tuple[tuple[Finding, ...], str | None]:
    """Findings, and the address: what the configuration says, or what the signer proved when it was asked."""
    address = checksum_address(config.address) if config.address is not None else None
    findings = [*(_kms(config) if config.kms_key_id is not None else _remote(config))]
    if not is_unlocking:
        remedy = "ask it with: runnerctl doctor --unlock"
        return (*findings, weak("unlock", "not asked", cost="not known whether it would sign", remedy=remedy)), address
    name = config.signer_token_credential
    if name is not None and not os.environ.get(CREDENTIALS_VARIABLE):
        remedy = f"start the unit, or run this in systemd-run with LoadCredential={name}:/path/of/the/file"
        text = f"not tried: systemd gives the credential {name} to the unit alone"
        return (*findings, weak("unlock", text, cost="not known whether it would sign", remedy=remedy)), address
    try:
        address = asyncio.run(_ask(config))
    except WalletError as error:
        return (*findings, bad("unlock", str(error), cost=NO_START)), address
    return (*findings, good("unlock", f"it answers; its address is {address}")), address


async def _ask(config: WalletConfig) -> str:
    signer = await open_signer(config)
    await signer.close()
    return signer.address


def _kms(config: WalletConfig) -> list[Finding]:
    key = good(
        "KMS key", f"{config.kms_key_id} in {config.kms_region or 'the region of its ARN or of the environment'}"
    )
    if find_spec("boto3") is None:
        return [key, bad("boto3", "not installed", cost=NO_START, remedy="pip install 'runnerd[kms]'")]
    return [key, good("boto3", "installed")]


def _remote(config: WalletConfig) -> list[Finding]:
    url = parse_node_url(config.signer_url or "")
    shown = f"{url.display} for {config.address}"
    if url.is_tls or config.signer_token_file or config.signer_token_credential:
        found = [good("signer", shown)]
    else:
        cost = "whoever is between can ask it for signatures as well"
        found = [weak("signer", f"{shown}, without TLS or token", cost=cost, remedy="use https:// beyond this host")]
    if config.signer_token_file is not None:
        found.append(examine_secret("token", config.signer_token_file))
    if config.signer_client_cert_file is not None:
        found.append(examine_secret("certificate", config.signer_client_cert_file))
    return found
