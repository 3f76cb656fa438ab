"""A small world to run runnerd in: contracts on a local node, a funded vault, an operator's keystore, a configuration.

Used by the demo, the integration tests and the benchmark. The owner is anvil's first account; the operator's key is new
each time and stands in the keystore only.
"""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from web3 import Web3
from web3.contract import Contract
from web3.middleware import AttributeDictMiddleware, Web3Middleware
from web3.types import MakeRequestFn, RPCEndpoint, RPCResponse

from runnerd.control.client import NotRunning, ask
from runnerd.control.messages import ControlError, Reply, Request
from runnerd.control.status_messages import GetStatus, Status
from runnerd.wallets.keystore import create_keystore
from runnerd.wallets.passphrase import PassphraseFile, fetch_passphrase
from tests.support.contracts import deploy, load_artifact

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGINS = Path(__file__).parent / "plugins"
ETHER = 10**18
SPOT = 200_000
KDF_WORK = 1 << 12
"""A throw-away key: its passphrase need not be hard to guess, and each start is a second faster."""


@dataclass(frozen=True, slots=True)
class Venue:
    """What stands on chain: a vault with ether, a market it may use, and who owns them."""

    w3: Web3
    url: str
    owner: str
    operator: str
    vault: Contract
    market: Contract

    def send(self, function: Any) -> None:
        """Call a contract as the owner, and wait until it is mined."""
        receipt = self.w3.eth.wait_for_transaction_receipt(function.transact({"from": self.owner}), poll_latency=0.02)
        if receipt["status"] != 1:
            raise RuntimeError(f"{function} reverted")


def _connect(url: str) -> Web3:
    """A Web3 that holds no connection between two requests: the tests count their descriptors."""
    headers = {"Content-Type": "application/json", "Connection": "close"}
    provider = Web3.HTTPProvider(url, request_kwargs={"headers": headers})
    return Web3(provider, middleware=[AttributeDictMiddleware, _MineAtOnce])


class _MineAtOnce(Web3Middleware):
    """A block for each transaction of the owner: nobody waits for the node's block time."""

    def wrap_make_request(self, make_request: MakeRequestFn) -> MakeRequestFn:
        """See Web3Middleware."""

        def middleware(method: RPCEndpoint, params: Any) -> RPCResponse:
            response = make_request(method, params)
            if method == "eth_sendTransaction":
                make_request(RPCEndpoint("evm_mine"), [])
            return response

        return middleware


def build_venue(url: str, operator: str, *, cap_wei: int = ETHER) -> Venue:
    """Deploy vault and market at the node behind `url`, fund vault and operator, allow the two mints."""
    w3 = _connect(url)
    owner = w3.eth.accounts[0]
    vault = w3.eth.contract(deploy(w3, "OperatorVault", owner, operator), abi=load_artifact("OperatorVault")["abi"])
    market = w3.eth.contract(deploy(w3, "RangeMarket", SPOT, owner), abi=load_artifact("RangeMarket")["abi"])
    venue = Venue(w3, url, owner, operator, vault, market)
    for mint in ("mintBinary(uint256,bool)", "mintRange(uint256,uint256)"):
        venue.send(vault.functions.setAllowed(market.address, Web3.keccak(text=mint)[:4], True))
    venue.send(vault.functions.setCaps(cap_wei, 100 * cap_wei))
    for to in (vault.address, operator):
        sent = w3.eth.send_transaction({"from": owner, "to": to, "value": Web3.to_wei(100, "ether")})
        w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)
    return venue


def make_keystore(directory: Path, name: str = "operator") -> str:
    """`operator.json` and `passphrase` in `directory`, or `NAME.json` and `NAME-passphrase`; the key's address."""
    passphrase = directory / ("passphrase" if name == "operator" else f"{name}-passphrase")
    passphrase.touch(mode=0o600)
    passphrase.write_text(secrets.token_hex(16) + "\n")
    source = fetch_passphrase(PassphraseFile(passphrase), {})
    return create_keystore(directory / f"{name}.json", source, kdf_work=KDF_WORK)


def render_config(
    venue: Venue,
    plugins: Mapping[str, Mapping[str, object]],
    *,
    url: str | None = None,
    dsn: str | None = None,
    chain: Mapping[str, object] | None = None,
    vault: Mapping[str, object] | None = None,
    wallet: Mapping[str, object] | None = None,
    http: Mapping[str, object] | None = None,
) -> str:
    """`runnerd.toml` for `venue`. `url` if the node is reached another way (a proxy); extra keys by table.

    A plugin acts for the vault, unless it says its role. A `wallet` of another kind takes the place of the keystore
    that `make_keystore` made.
    """
    market = venue.market.address
    keystore = {"keystore": "operator.json", "passphrase_file": "passphrase"}
    is_elsewhere = wallet is not None and not wallet.keys().isdisjoint({"kms_key_id", "signer_url"})
    tables: dict[str, Mapping[str, object]] = {
        "": {"data_dir": "data", "runtime_dir": "run", "log_level": "debug"},
        "http": {"port": 0, **(http or {})},
        "chains.local": {"id": 31337, "rpc": url or venue.url, "poll_s": 0.1, "confirmations": 2, **(chain or {})},
        "wallets.operator": {**({} if is_elsewhere else keystore), **(wallet or {})},
        "vaults.demo": {
            "chain": "local",
            "address": venue.vault.address,
            "wallet": "operator",
            "max_value_wei_per_day": 10 * ETHER,
            **(vault or {}),
        },
        "vaults.demo.reads.spot": {"contract": market, "function": "spot() view returns (uint256)"},
        "vaults.demo.reads.positions": {"contract": market, "function": "positionCount() view returns (uint256)"},
        "vaults.demo.actions.mint_binary": {
            "contract": market,
            "function": "mintBinary(uint256 strike, bool above) payable returns (uint256)",
            "max_value_wei": ETHER // 100,
        },
        "vaults.demo.actions.mint_binary.limits.strike": {"min": 1_000, "max": 10_000_000},
        "vaults.demo.actions.mint_range": {
            "contract": market,
            "function": "mintRange(uint256 lower, uint256 upper) payable returns (uint256)",
            "max_value_wei": ETHER // 100,
        },
    }
    if dsn is not None:
        tables["database"] = {"dsn": dsn}
    for name, plugin in plugins.items():
        tables[f"plugins.{name}"] = {**({} if "role" in plugin else {"vault": "demo"}), **plugin}
    return render_tables(tables)


def render_tables(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Tables of a configuration, to append to another part of it."""
    return "\n".join(_table(name, keys) for name, keys in tables.items())


class Process(Protocol):
    """What a daemon's process has of `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: signal.Signals, /) -> None: ...
    def kill(self) -> None: ...


@dataclass(slots=True)
class Daemon:
    """A running `runnerd`, started like an operator would: the command, a configuration, and its control socket."""

    directory: Path
    process: Process
    log: Path

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.directory / "data" / "control.sock"

    def ask(self, request: Request, timeout_s: float = 30.0) -> Reply:
        """Ask it something. Raises ControlError."""
        return ask(self.socket, request, timeout_s)

    def status(self) -> Status:
        """Its status, now."""
        status = self.ask(GetStatus())
        assert isinstance(status, Status)
        return status

    def wait_until(self, is_so: Callable[[Status], bool], deadline_s: float = 30.0) -> Status:
        """The first status for which `is_so` holds. Raises TimeoutError with the last status and the end of the log."""
        until = time.monotonic() + deadline_s
        last: Status | None = None
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"runnerd ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                last = self.status()
            except (NotRunning, ControlError):
                pass
            else:
                if is_so(last):
                    return last
            time.sleep(0.02)  # between two looks, up to the deadline: a daemon tells its status to who asks only
        raise TimeoutError(f"not within {deadline_s:g} s; last status: {last}\n{self.log_tail()}")

    def wait_ready(self, *plugins: str, deadline_s: float = 60.0) -> Status:
        """Until these plugins are ready."""
        wanted = set(plugins)
        return self.wait_until(
            lambda status: wanted <= {plugin.name for plugin in status.plugins if plugin.state == "ready"}, deadline_s
        )

    def log_tail(self, lines: int = 60) -> str:
        """The end of what it logged."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, deadline_s: float = 45.0) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()


def start_daemon(directory: Path, command: Sequence[str] = ()) -> Daemon:
    """Start `runnerd --config directory/runnerd.toml`, or another `command`; its log goes to `runnerd.log` there."""
    command = command or [str(Path(sys.executable).with_name("runnerd"))]
    log = directory / "runnerd.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*command, "--config", str(directory / "runnerd.toml")],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    return Daemon(directory, process, log)


@contextmanager
def running_daemon(directory: Path) -> Iterator[Daemon]:
    """`start_daemon` for the length of a block: stopped in order at its end, or killed if that fails."""
    daemon = start_daemon(directory)
    try:
        yield daemon
    finally:
        try:
            daemon.stop()
        finally:
            daemon.kill()


def _table(name: str, keys: Mapping[str, object]) -> str:
    lines = [f"[{name}]"] if name else []
    return "\n".join([*lines, *(f"{key} = {_value(value)}" for key, value in keys.items())]) + "\n"


def _key(key: str) -> str:
    return f'"{key}"' if "." in key else key


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict():
            return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
