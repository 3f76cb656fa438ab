"""The signer that is another program, as web3signer: `eth_signTransaction` with every field given, nothing believed.

The signed transaction that comes back is held byte for byte against what was asked before it is used. The remote side
sees the whole transaction and may have rules of its own. web3signer signs for the chain that it was started with, which
must be the wallet's; the reference is https://docs.web3signer.consensys.io/reference/api/json-rpc.
"""

from collections.abc import Mapping
from pathlib import Path

from runnerd.chain.json_values import JsonParam
from runnerd.chain.node_url import parse_node_url
from runnerd.text import printable
from runnerd.wallets.errors import PassphraseUnavailable, SignerMismatch, SignerRefused
from runnerd.wallets.passphrase import PassphraseSource, fetch_passphrase
from runnerd.wallets.redacted import Redacted
from runnerd.wallets.returned import accept_returned
from runnerd.wallets.signer_http import SignerHttp, load_tls
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction


class RemoteSigner(Redacted):
    """`Signer` over JSON-RPC. Made by `open_remote`."""

    __slots__ = ("_address", "_http", "_name")

    def __init__(self, http: SignerHttp, name: str, address: str) -> None:
        self._http = http
        self._name = name
        self._address = address

    def __repr__(self) -> str:
        return f"<RemoteSigner {self._address} at {self._name}: credentials redacted>"

    @property
    def address(self) -> str:
        """The checksummed address it signs for."""
        return self._address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """The signed transaction, after every byte of it was compared."""
        raw = await self._http.ask("eth_signTransaction", [_request(transaction, self._address)])
        try:
            return accept_returned(transaction, _from_hex(raw), self._address)
        except ValueError as error:
            raise SignerMismatch(self._name, printable(str(error))) from None

    async def close(self) -> None:
        """Close the connections to it."""
        await self._http.close()


async def open_remote(
    url: str,
    address: str,
    *,
    token: PassphraseSource | None = None,
    ca_file: Path | None = None,
    client_cert_file: Path | None = None,
    environ: Mapping[str, str],
) -> RemoteSigner:
    """Connect, and check that the signer has the key of `address` (checksummed).

    `url` was checked by the configuration. Raises SignerUnavailable, SignerRefused, SignerMismatch.
    """
    parsed = parse_node_url(url)
    name = f"signer {parsed.display}"
    tls = load_tls(name, ca_file, client_cert_file) if parsed.is_tls else None
    try:
        secret = None if token is None else fetch_passphrase(token, environ)
    except PassphraseUnavailable as error:
        remedy = error.remedy.replace("passphrase", "token")
        raise SignerRefused(name, f"its token from {error.source}: {error.reason}", remedy) from None
    http = SignerHttp(name, parsed, tls, secret)
    try:
        accounts = await http.ask("eth_accounts", [])
        if not isinstance(accounts, list):
            raise SignerMismatch(name, "eth_accounts is not a list")
        if address.lower() not in {account.lower() for account in accounts if isinstance(account, str)}:
            reason = f"it has no key of {address} ({len(accounts)} other accounts)"
            raise SignerRefused(name, reason, "give it that key, or correct wallets.NAME.address")
    except BaseException:
        await http.close()
        raise
    return RemoteSigner(http, name, address)


def _request(transaction: UnsignedTransaction, sender: str) -> dict[str, JsonParam]:
    """Nothing is left out, so that there is nothing for the signer to choose."""
    if transaction.is_legacy:
        fees = {"gasPrice": hex(transaction.max_fee_per_gas_wei)}
    else:
        fees = {
            "maxFeePerGas": hex(transaction.max_fee_per_gas_wei),
            "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas_wei),
        }
    return {
        "from": sender,
        "to": transaction.to,
        "gas": hex(transaction.gas_limit),
        **fees,
        "value": hex(transaction.value_wei),
        "data": "0x" + transaction.data.hex(),
        "nonce": hex(transaction.nonce),
        "chainId": hex(transaction.chain_id),
    }


def _from_hex(text: object) -> bytes:
    """The bytes of the answer. Raises ValueError."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError("it is not text that begins with 0x")
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise ValueError("it is not hex") from None
