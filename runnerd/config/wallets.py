"""What the keys of `[wallets.*]` must satisfy together: one kind of signer each, and no key of another kind.

Pure but for looking whether files exist. Called by `check`.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError, NodeUrlInvalid
from runnerd.chain.node_url import NodeUrl, parse_node_url
from runnerd.config.extensions import SIGNERS, check_installed
from runnerd.config.model import WalletConfig
from runnerd.config.problem import Problem

KINDS: Final[Mapping[str, frozenset[str]]] = {
    "keystore": frozenset({"passphrase_file", "passphrase_credential"}),
    "kms_key_id": frozenset({"kms_region", "kms_endpoint_url", "address"}),
    "signer_url": frozenset({
        "address", "signer_token_file", "signer_token_credential", "signer_ca_file", "signer_client_cert_file",
    }),
    "signer_entry_point": frozenset({"address", "signer_params"}),
}  # fmt: skip
"""The key that says what kind of wallet it is, and those that go with it."""
_FILES: Final = ("keystore", "passphrase_file", "signer_token_file", "signer_ca_file", "signer_client_cert_file")
_FOR_TLS: Final = ("signer_ca_file", "signer_client_cert_file")


def check_wallets(wallets: Mapping[str, WalletConfig]) -> Iterator[Problem]:
    """All problems of the tables of wallets."""
    for name, wallet in wallets.items():
        yield from _wallet(f"wallets.{name}", wallet)
    for kind in KINDS:
        yield from _same_keys(kind, wallets)


def _wallet(key: str, wallet: WalletConfig) -> Iterator[Problem]:
    kinds = [kind for kind in KINDS if getattr(wallet, kind) is not None]
    if len(kinds) != 1:
        yield Problem(key, f"needs exactly one of {', '.join(KINDS)}; it has {', '.join(kinds) or 'none'}")
    else:
        yield from _foreign_keys(key, kinds[0], wallet)
    for field in _FILES:
        path = getattr(wallet, field)
        if path is not None and not path.is_file():
            yield Problem(f"{key}.{field}", f"no such file: {path}")
    if wallet.address is not None:
        try:
            parse_address(wallet.address)
        except AbiError as error:
            yield Problem(f"{key}.address", str(error))
    match kinds:
        case ["keystore"]:
            if (wallet.passphrase_file is None) == (wallet.passphrase_credential is None):
                yield Problem(key, "needs exactly one of passphrase_file and passphrase_credential")
        case ["kms_key_id"]:
            yield from _kms(key, wallet)
        case ["signer_url"]:
            yield from _remote(key, wallet)
        case ["signer_entry_point"]:
            yield from check_installed(f"{key}.signer_entry_point", SIGNERS, wallet.signer_entry_point or "")
        case _:
            pass


def _foreign_keys(key: str, kind: str, wallet: WalletConfig) -> Iterator[Problem]:
    for other, fields in KINDS.items():
        for field in sorted(fields - KINDS[kind]):
            if getattr(wallet, field) is not None:
                allowed = ", ".join(sorted(KINDS[kind]))
                yield Problem(
                    f"{key}.{field}", f"goes with {other}, this wallet has {kind}; allowed with it: {allowed}"
                )


def _kms(key: str, wallet: WalletConfig) -> Iterator[Problem]:
    parts = (wallet.kms_key_id or "").split(":")
    if parts[0] == "arn" and (len(parts) != 6 or parts[2] != "kms"):
        yield Problem(f"{key}.kms_key_id", "is no ARN of a KMS key: write arn:aws:kms:REGION:ACCOUNT:key/ID")
    elif parts[0] == "arn" and wallet.kms_region not in {None, parts[3]}:
        yield Problem(f"{key}.kms_region", f"is not the region in kms_key_id, {parts[3]}")
    if wallet.kms_endpoint_url is not None:
        yield from _http_url(f"{key}.kms_endpoint_url", wallet.kms_endpoint_url)


def _remote(key: str, wallet: WalletConfig) -> Iterator[Problem]:
    if wallet.address is None:
        yield Problem(f"{key}.address", "is missing; with signer_url it must name what the signer signs for")
    if wallet.signer_token_file is not None and wallet.signer_token_credential is not None:
        yield Problem(key, "needs at most one of signer_token_file and signer_token_credential")
    problems = list(_http_url(f"{key}.signer_url", wallet.signer_url or ""))
    yield from problems
    if problems:
        return
    url = parse_node_url(wallet.signer_url or "")
    if not url.is_tls:
        for field in _FOR_TLS:
            if getattr(wallet, field) is not None:
                yield Problem(f"{key}.{field}", "is of no use with http://: write https:// in signer_url")
        if (wallet.signer_token_file or wallet.signer_token_credential) and not _is_loopback(url):
            yield Problem(
                f"{key}.signer_url", "would carry the token in the clear: use https://, or a signer on loopback"
            )


def _http_url(key: str, text: str) -> Iterator[Problem]:
    """Neither credentials nor another scheme; the text of a problem never repeats the url."""
    try:
        url = parse_node_url(text)
    except NodeUrlInvalid:
        url = None
    if url is None or url.scheme not in {"http", "https"}:
        yield Problem(key, "is not a url that can be used: write http://HOST or https://HOST")
    elif "@" in urlsplit(text).netloc:
        yield Problem(key, "holds credentials: use the key that is meant for them")


def _is_loopback(url: NodeUrl) -> bool:
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def _same_keys(kind: str, wallets: Mapping[str, WalletConfig]) -> Iterator[Problem]:
    """Two lanes with one key would give out the same nonces."""
    seen: dict[object, str] = {}
    for name, wallet in wallets.items():
        value = getattr(wallet, kind)
        if kind == "signer_url" and value is not None:
            value = (wallet.address or name).lower()  # one signer may hold many keys
        if value is None:
            continue
        if value in seen:
            field = "address" if kind == "signer_url" else kind
            what = {"keystore": "keystore", "kms_key_id": "key", "signer_url": "address"}[kind]
            yield Problem(f"wallets.{name}.{field}", f"is the {what} of wallets.{seen[value]} too")
        seen[value] = name
