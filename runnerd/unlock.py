"""Unlocks the configured wallets. After this the key exists, in this process and in `runnerd.wallets` alone."""

import asyncio
import os
from collections.abc import Mapping

from runnerd.config.model import WalletConfig
from runnerd.wallets.keystore import unlock_keystore
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile, PassphraseSource, fetch_passphrase
from runnerd.wallets.signer import Signer


async def unlock(wallets: Mapping[str, WalletConfig]) -> dict[str, Signer]:
    """A signer for each wallet, by name. Raises WalletError. Each takes about a second of scrypt, in a thread."""
    signers = await asyncio.gather(*(asyncio.to_thread(_unlock, wallet) for wallet in wallets.values()))
    return dict(zip(wallets, signers, strict=True))


def _unlock(wallet: WalletConfig) -> Signer:
    return unlock_keystore(wallet.keystore, fetch_passphrase(_source(wallet), os.environ))


def _source(wallet: WalletConfig) -> PassphraseSource:
    if wallet.passphrase_file is not None:
        return PassphraseFile(wallet.passphrase_file)
    return PassphraseCredential(wallet.passphrase_credential or "")
