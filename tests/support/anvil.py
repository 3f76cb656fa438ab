"""A real EVM node for tests: starts `anvil` on a free port and ends it, by its pid, with the test.

Owns the process and its temporary home; knows nothing of contracts (see `contracts.py`) and needs only the standard
library. The binary is `$ANVIL`, or the npm package `@foundry-rs/anvil` under `.tools` of the repository.
"""

import json
import os
import platform
import select
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
READY_DEADLINE_S = 10.0
ANSWER_DEADLINE_S = 60.0
"""A reorg behind thousands of blocks takes its time."""
POLL_S = 0.005
TCP_LISTEN = "0A"


class AnvilMissingError(RuntimeError):
    """There is no anvil binary. Run `make install`, which puts it below `.tools`, or let the environment variable ANVIL
    name one."""


class AnvilNotReadyError(RuntimeError):
    """anvil ended, or did not answer in time. The message ends with what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anvil:
    """A running node. `accounts` (hex as anvil writes it, not checksummed) and `keys` match by index."""

    url: str
    ws_url: str
    process: subprocess.Popen[bytes]
    accounts: tuple[str, ...]
    keys: tuple[str, ...]

    def rpc(self, method: str, *params: object) -> Any:
        """Call one JSON-RPC method, such as `evm_increaseTime`; raise RuntimeError with the node's error."""
        return _rpc(self.url, method, *params)


def find_anvil() -> Path:
    """Path of the anvil binary; raise AnvilMissingError naming the places looked at."""
    configured = os.environ.get("ANVIL")
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    packaged = REPOSITORY / f".tools/node_modules/@foundry-rs/anvil-linux-{architecture}/bin/anvil"
    path = Path(configured) if configured else packaged
    if not os.access(path, os.X_OK):
        source = "the environment variable ANVIL" if configured else "the default"
        advice = " ".join((AnvilMissingError.__doc__ or "").split())
        raise AnvilMissingError(f"no executable at {path} ({source}). {advice}")
    return path


@contextmanager
def start_anvil(
    *,
    block_time_s: float | None = None,
    chain_id: int | None = None,
    genesis_timestamp_s: int | None = None,
    prune_history: bool = True,
    extra_args: Sequence[str] = (),
) -> Iterator[Anvil]:
    """Run anvil for the length of the `with` block.

    Without `block_time_s` every transaction is mined at once; for floods give a block time (automine strands
    transactions). `prune_history=False` keeps old states for reads at past blocks. The node is killed when the block
    ends, and by the kernel when the *thread* that entered the block ends, however that happens: enter it from a
    thread that outlives the test.
    """
    binary = find_anvil()
    with tempfile.TemporaryDirectory(prefix="anvil-") as home:
        config, output = Path(home, "config.json"), Path(home, "output.txt")
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(binary), "--host", "127.0.0.1", "--port", "0"]
        command += ["--silent", "--config-out", str(config)]
        command += ["--prune-history"] if prune_history else []
        command += ["--block-time", str(block_time_s)] if block_time_s is not None else []
        command += ["--chain-id", str(chain_id)] if chain_id is not None else []
        command += ["--timestamp", str(genesis_timestamp_s)] if genesis_timestamp_s is not None else []
        command += extra_args
        environment = {"HOME": home, "PATH": os.environ.get("PATH", os.defpath), "NO_COLOR": "1"}
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, cwd=home
            )
        try:
            yield _wait_until_ready(process, config, output)
        finally:
            # Popen.kill does nothing when the process has been reaped, so a recycled pid is never hit.
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], config: Path, output: Path) -> Anvil:
    deadline = time.monotonic() + READY_DEADLINE_S
    pidfd = os.pidfd_open(process.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    try:
        while time.monotonic() < deadline:
            port = _find_listening_port(process.pid)
            if port is not None:
                with suppress(OSError, ValueError):  # not accepting yet, or the config is half written
                    url = f"127.0.0.1:{port}"
                    _rpc(f"http://{url}", "eth_chainId")
                    wallet = json.loads(config.read_text())
                    return Anvil(
                        url=f"http://{url}",
                        ws_url=f"ws://{url}",
                        process=process,
                        accounts=tuple(wallet["available_accounts"]),
                        keys=tuple(wallet["private_keys"]),
                    )
            if exited.poll(POLL_S * 1000):
                code = process.wait()
                raise AnvilNotReadyError(f"anvil ended with {_describe_exit(code)}: {_tail(output)}")
    finally:
        os.close(pidfd)
    raise AnvilNotReadyError(f"anvil did not answer within {READY_DEADLINE_S} s: {_tail(output)}")


def _find_listening_port(pid: int) -> int | None:
    """The TCP port `pid` listens on: asked from the kernel, since a port picked beforehand may be taken by then."""
    with suppress(OSError):
        sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == TCP_LISTEN and f"socket:[{fields[9]}]" in sockets:
                return int(fields[1].rpartition(":")[2], 16)
    return None


def _rpc(url: str, method: str, *params: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=ANSWER_DEADLINE_S) as response:
        answer = json.load(response)
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer["result"]


def _describe_exit(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _tail(output: Path) -> str:
    return output.read_text(errors="replace")[-2000:].strip() or "(it wrote nothing)"
