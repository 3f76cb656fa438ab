"""A remote signer for tests, as web3signer: eth_accounts and eth_signTransaction over HTTP, signed by eth_account.

In a process of its own, `python -m tests.support.remote_signer`; the key comes over stdin, and it ends when stdin does.
The path says how it misbehaves, `URL/other-nonce` for example; see `TAMPERINGS` and `FAULTS`. With a token in the path
`/token` it wants `Authorization: Bearer TOKEN`.
"""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import rlp
from aiohttp import web
from eth_account import Account
from eth_keys.constants import SECPK1_N
from eth_utils.address import to_checksum_address

KEY = bytes(range(7, 39))
OTHER_KEY = bytes(range(8, 40))
ADDRESS: str = Account.from_key(KEY).address
TOKEN = "let-me-in.0123456789"
SLOW_S = 60.0

Fields = dict[str, Any]


def _changed(**changes: object) -> Callable[[Fields], Fields]:
    return lambda fields: {**fields, **changes}


def _legacy(fields: Fields) -> Fields:
    kept = {name: value for name, value in fields.items() if not name.startswith("max") and name != "type"}
    return {**kept, "gasPrice": fields["maxFeePerGas"]}


TAMPERINGS: Mapping[str, Callable[[Fields], Fields]] = {
    "other-nonce": lambda fields: {**fields, "nonce": fields["nonce"] + 1},
    "other-to": _changed(to="0x" + "99" * 20),
    "other-value": lambda fields: {**fields, "value": fields["value"] + 1},
    "other-data": _changed(data=b"\x01"),
    "other-gas": lambda fields: {**fields, "gas": fields["gas"] + 1},
    "other-fee": lambda fields: {**fields, "maxFeePerGas": fields["maxFeePerGas"] + 1},
    "other-tip": lambda fields: {**fields, "maxPriorityFeePerGas": 0},
    "other-chain": lambda fields: {**fields, "chainId": fields["chainId"] + 1},
    "access-list": _changed(accessList=[{"address": "0x" + "11" * 20, "storageKeys": []}]),
    "other-type": _legacy,
}
"""Changes of what is signed; the signature is right for what comes back."""


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A running signer. A path behind `url` makes it misbehave."""

    url: str


@contextmanager
def running_signer(*tls: str) -> Iterator[RemoteServer]:
    """The signer for the length of a block. `tls`: its certificate's file, and the authority of clients if it asks."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.remote_signer", *tls]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            url = process.stdout.readline().strip()
            assert url, "the signer did not start"
            yield RemoteServer(url)
        finally:
            process.stdin.close()
            process.wait(60)


# --- in the signer's process -----------------------------------------------------------------------------------------


async def _answer(request: web.Request) -> web.StreamResponse:
    mode = request.path.strip("/")
    asked = await request.json()
    if mode == "token" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
        return web.Response(status=401)
    if asked["method"] == "eth_accounts" and not mode.endswith("-all"):
        return _result(asked, [ADDRESS.lower(), "0x" + "22" * 20])
    if mode in FAULTS:
        return cast("web.Response", await FAULTS[mode](asked))
    if asked["method"] != "eth_signTransaction":
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "none"}})
    return _result(asked, "0x" + _signed(asked["params"][0], mode).hex())


def _signed(params: Mapping[str, str], mode: str) -> bytes:
    assert params["from"] == ADDRESS
    names = {"gas", "value", "nonce", "chainId", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas"} & params.keys()
    fields: Fields = {name: int(params[name], 16) for name in names}
    fields |= {"to": to_checksum_address(params["to"]), "data": bytes.fromhex(params["data"][2:])}
    fields |= {} if "gasPrice" in fields else {"type": 2}
    if mode in TAMPERINGS:
        fields = TAMPERINGS[mode](fields)
    key = OTHER_KEY if mode == "other-key" else KEY
    raw = bytes(Account.sign_transaction(fields, key).raw_transaction)
    if mode == "high-s":
        return _with_high_s(raw)
    return raw + b"\0" if mode == "longer" else raw[:-1] if mode == "shorter" else raw


def _with_high_s(raw: bytes) -> bytes:
    """As valid for the curve, and as of the same signer: EIP-2 alone forbids it."""
    items: list[Any] = rlp.decode(raw[1:])
    items[-1] = int(SECPK1_N - int.from_bytes(items[-1], "big")).to_bytes(32, "big")
    items[-3] = b"" if items[-3] else b"\1"
    return raw[:1] + bytes(rlp.encode(items))


def _result(asked: Mapping[str, Any], result: object) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": result})


def _error(code: int, message: str, status: int = 200) -> Callable[[Mapping[str, Any]], Any]:
    async def answer(asked: Mapping[str, Any]) -> web.Response:
        body = {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": message}}
        return web.json_response(body, status=status)

    return answer


def _page(text: str, status: int = 200, result: object = None) -> Callable[[Mapping[str, Any]], Any]:
    async def answer(asked: Mapping[str, Any]) -> web.Response:
        if result is not None:
            return _result(asked, result)
        return web.Response(text=text, status=status, headers={"Location": "/elsewhere"})

    return answer


async def _slow(asked: Mapping[str, Any]) -> web.Response:
    await asyncio.sleep(SLOW_S)
    return _result(asked, None)


FAULTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "junk": _page("<html>hello</html>"),
    "number": _page("", result=7),
    "no-hex": _page("", result="0xzz"),
    "empty": _page("", result="0x"),
    "huge": _page("x" * (2 << 20)),
    "locked": _error(-32000, "No unlocked account matches the Sender\x1b[2J", 500),
    "picky": _error(-32602, "Invalid params\x1b[2J", 400),
    "internal": _error(-32603, "Internal error", 500),
    "limited": _error(429, "slow down"),
    "busy": _page("busy", 503),
    "forbidden": _page("", 403),
    "gone": _page("", 404),
    "moved": _page("", 307),
    "slow": _slow,
    "slow-all": _slow,
    "no-list-all": _page("", result={"a": 1}),
    "no-key-all": _page("", result=["0x" + "22" * 20, 5, None]),
}
"""Answers to every eth_signTransaction, and with `-all` to eth_accounts too."""


async def _serve(certificate: str | None, clients: str | None) -> None:
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
        context.load_cert_chain(certificate)
        context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
    app = web.Application()
    app.router.add_post("/{mode:.*}", _answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    print(f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(*[*sys.argv[1:], None, None][:2]))
