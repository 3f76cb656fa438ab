"""A signer for each configured wallet: keystores are opened, KMS and remote signers are asked who they are.

After this the keys of keystores exist, in this process and in `runnerd.wallets` alone. Called by `app` and the doctor.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runnerd.chain.address import checksum_address
from runnerd.config.extensions import SIGNERS, Option
from runnerd.config.model import WalletConfig
from runnerd.errors import describe
from runnerd.extensions import SignerTools, find_gaps, load_factory
from runnerd.log import fields
from runnerd.tasks import within
from runnerd.wallets.errors import WalletError
from runnerd.wallets.extension import ExtensionSigner, RawSigner
from runnerd.wallets.keystore import unlock_keystore
from runnerd.wallets.kms import open_kms
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile, PassphraseSource, fetch_passphrase
from runnerd.wallets.remote import open_remote
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd")

CLOSE_DEADLINE_S: Final = 5.0


async def unlock(wallets: Mapping[str, WalletConfig]) -> dict[str, Signer]:
    """A signer for each wallet, by name. Raises WalletError, and then none is left open."""
    opened = await asyncio.gather(*map(open_signer, wallets.values()), return_exceptions=True)
    signers = {
        name: signer for name, signer in zip(wallets, opened, strict=True) if not isinstance(signer, BaseException)
    }
    problems = [problem for problem in opened if isinstance(problem, BaseException)]
    if problems:
        await close_signers(signers)
        raise problems[0]
    return signers


async def close_signers(signers: Mapping[str, Signer]) -> None:
    """Close the connections that they have. One that does not is logged: the stop goes on."""
    await asyncio.gather(*(_close(name, signer) for name, signer in signers.items()))


async def _close(name: str, signer: Signer) -> None:
    try:
        await within(CLOSE_DEADLINE_S, signer.close(), f"signer-close:{name}")
    except Exception:  # of a third party as well
        logger.exception("the signer of wallet %s does not close", name, extra=fields("signer_not_closed", wallet=name))


async def open_signer(wallet: WalletConfig) -> Signer:
    """The signer of one wallet. Raises WalletError. A keystore takes about a second of scrypt, in a thread."""
    address = checksum_address(wallet.address) if wallet.address is not None else None
    if wallet.keystore is not None:
        return await asyncio.to_thread(_open_keystore, wallet)
    if wallet.kms_key_id is not None:
        return await open_kms(
            wallet.kms_key_id, region=wallet.kms_region, endpoint_url=wallet.kms_endpoint_url, address=address
        )
    if wallet.signer_url is not None and address is not None:
        return await open_remote(
            wallet.signer_url,
            address,
            token=_source(wallet.signer_token_file, wallet.signer_token_credential),
            ca_file=wallet.signer_ca_file,
            client_cert_file=wallet.signer_client_cert_file,
            environ=os.environ,
        )
    if wallet.signer_entry_point is not None:
        return await _open_extension(wallet.signer_entry_point, wallet.signer_params or {}, address)
    raise WalletError("a wallet has neither keystore nor kms_key_id nor signer_url with an address")


async def _open_extension(name: str, params: Mapping[str, Option], address: str | None) -> Signer:
    place = "signer_entry_point"
    try:
        signer: RawSigner = await load_factory(place, SIGNERS, name)(SignerTools(params=params, address=address))
        gaps = find_gaps(signer, RawSigner)
        its = "" if gaps else checksum_address(signer.address)
    except WalletError:
        raise
    except Exception as error:  # whatever its code runs into
        raise WalletError(f"{place} {name!r} gives no signer: {describe(error)}") from error
    if gaps:
        raise WalletError(f"{place} {name!r} gives {type(signer).__name__}, which lacks {', '.join(gaps)}")
    if address not in (None, its):
        await signer.close()
        raise WalletError(f"{place} {name!r} signs for {its}, the wallet's address is {address}: correct one of them")
    return ExtensionSigner(signer, name, its)


def _open_keystore(wallet: WalletConfig) -> Signer:
    source = _source(wallet.passphrase_file, wallet.passphrase_credential)
    if wallet.keystore is None or source is None:
        raise WalletError("a keystore needs a passphrase_file or a passphrase_credential")
    return unlock_keystore(wallet.keystore, fetch_passphrase(source, os.environ))


def _source(file: Path | None, credential: str | None) -> PassphraseSource | None:
    if file is not None:
        return PassphraseFile(file)
    return None if credential is None else PassphraseCredential(credential)
