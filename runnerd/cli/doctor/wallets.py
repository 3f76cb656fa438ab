"""Each wallet: its keystore's header, address and permissions, and whether its passphrase can be had. See `signers` for
those whose key is elsewhere.

Neither the passphrase nor the key is read, unless `is_unlocking`: then they meet once, and only the address stays.
"""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import AbiError
from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.cli.doctor.secret_file import examine_credential, examine_secret
from runnerd.cli.doctor.signers import examine_signer
from runnerd.config.model import WalletConfig
from runnerd.process import protect_memory
from runnerd.wallets.errors import WalletError
from runnerd.wallets.keystore import MAX_KEYSTORE_BYTES, unlock_keystore
from runnerd.wallets.passphrase import (
    CREDENTIALS_VARIABLE,
    PassphraseCredential,
    PassphraseFile,
    PassphraseSource,
    fetch_passphrase,
)

_NO_START: Final = "runnerd does not start"


@dataclass(frozen=True, slots=True)
class WalletReport:
    """`address` is what the keystore says of itself, or what its key proves when it was unlocked."""

    findings: tuple[Finding, ...]
    address: str | None


def examine_wallet(config: WalletConfig, *, is_unlocking: bool) -> WalletReport:
    """Look at one wallet. Blocks for a second per wallet when unlocking, for one elsewhere until it answers."""
    if is_unlocking:
        protect_memory()
    if config.keystore is None:
        return WalletReport(*examine_signer(config, is_unlocking=is_unlocking))
    keystore, address = _keystore(config.keystore)
    findings = [keystore, _passphrase(config)]
    if is_unlocking and (source := config.passphrase_credential) is not None and not _has_credentials():
        findings.append(_locked_credential(source))
    elif is_unlocking:
        try:
            signer = unlock_keystore(config.keystore, fetch_passphrase(_source(config), os.environ))
        except WalletError as error:
            findings.append(bad("unlock", str(error), cost=_NO_START))
        else:
            address = signer.address
            findings.append(good("unlock", f"the passphrase opens it; its address is {address}"))
    return WalletReport(tuple(findings), address)


def _keystore(path: Path) -> tuple[Finding, str | None]:
    subject = "keystore"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_KEYSTORE_BYTES + 1)
    except OSError as error:
        remedy = f"make one with: runnerctl wallet new {path}" if isinstance(error, FileNotFoundError) else ""
        return bad(subject, f"{path}: {error.strerror}", cost=_NO_START, remedy=remedy or "check owner and mode"), None
    problem, address = _header(content)
    if problem:
        return bad(subject, f"{path}: {problem}", cost=_NO_START), None
    shown = address or "its address is not in the header"
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        cost = "others can copy it and try passphrases at leisure"
        return weak(
            subject, f"{path} has mode {mode:04o}: {shown}", cost=cost, remedy=f"run: chmod 600 {path}"
        ), address
    return good(subject, f"{path}: {shown}"), address


def _header(content: bytes) -> tuple[str, str | None]:
    """What is wrong with the document ("" for nothing), and the address it names."""
    if len(content) > MAX_KEYSTORE_BYTES:
        return f"larger than {MAX_KEYSTORE_BYTES} bytes: is it the right file?", None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return "not JSON", None
    if not isinstance(document, dict) or document.get("version") != 3:
        return "not a Web3 Secret Storage file of version 3", None
    if not isinstance(document.get("crypto", document.get("Crypto")), dict):
        return "its crypto section is missing", None
    return "", _address(document.get("address"))


def _address(text: object) -> str | None:
    try:
        return checksum_address(f"0x{text.removeprefix('0x')}") if isinstance(text, str) else None
    except AbiError:
        return None


def _source(config: WalletConfig) -> PassphraseSource:
    if config.passphrase_file is not None:
        return PassphraseFile(config.passphrase_file)
    return PassphraseCredential(config.passphrase_credential or "")


def _has_credentials() -> bool:
    return bool(os.environ.get(CREDENTIALS_VARIABLE))


def _locked_credential(name: str) -> Finding:
    """systemd gives it to the unit alone, so that it cannot be had here is as it should be."""
    return weak(
        "unlock",
        f"not tried: systemd gives the credential {name} to the unit alone",
        cost="not known whether it opens the keystore",
        remedy="start the unit, or run as root: systemd-run --pipe --wait -p User=runnerd "
        f"-p LoadCredentialEncrypted={name}:/PATH/AS/IN/THE/UNIT runnerctl doctor --unlock",
    )


def _passphrase(config: WalletConfig) -> Finding:
    if config.passphrase_file is not None:
        return examine_secret("passphrase", config.passphrase_file)
    return examine_credential("passphrase", config.passphrase_credential or "")
