"""The node under the contract tests: found or explained, ready when handed over, gone when its test is."""

import os
import select
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
from eth_account import Account

from tests.support.anvil import REPOSITORY, AnvilMissingError, AnvilNotReadyError, start_anvil

DEADLINE_MS = 10_000
HOLDER = """
import signal
from tests.support.anvil import start_anvil
with start_anvil() as node:
    print(node.process.pid, flush=True)
    signal.pause()
"""


def test_a_node_answers_at_once_and_is_gone_afterwards() -> None:
    """Ready means ready; leaving the block ends and reaps the process, also when the test fails."""
    with pytest.raises(RuntimeError, match="no_such_method"), start_anvil(chain_id=4242) as node:  # noqa: PT012
        assert int(node.rpc("eth_chainId"), 16) == 4242
        node.rpc("no_such_method")
    assert node.process.returncode == -signal.SIGKILL
    with pytest.raises(urllib.error.URLError):
        node.rpc("eth_chainId")


def test_two_nodes_do_not_meet() -> None:
    """Every node has a port of its own, picked by the kernel."""
    with start_anvil() as one, start_anvil() as other:
        assert one.url != other.url
        one.rpc("anvil_mine", "0x5")
        assert (int(one.rpc("eth_blockNumber"), 16), int(other.rpc("eth_blockNumber"), 16)) == (5, 0)


def test_the_keys_open_the_accounts() -> None:
    """Ten funded accounts of the default mnemonic, each beside its private key."""
    with start_anvil() as node:
        assert len(node.accounts) == len(node.keys) == 10
        assert [Account.from_key(key).address.lower() for key in node.keys] == [a.lower() for a in node.accounts]
        assert int(node.rpc("eth_getBalance", node.accounts[9], "latest"), 16) > 0


def test_a_node_dies_with_its_test_process(tmp_path: Path) -> None:
    """Even SIGKILL on the test process leaves no anvil behind."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # the killed process cannot remove its directory
    command = [sys.executable, "-c", HOLDER]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, env=environment)
    assert holder.stdout is not None
    with holder, holder.stdout:
        pidfd = os.pidfd_open(int(holder.stdout.readline()))
        try:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            assert not ended.poll(0)
            holder.kill()
            assert ended.poll(DEADLINE_MS), "anvil outlived the process that started it"
        finally:
            os.close(pidfd)


def test_a_missing_binary_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the path, where it came from and what to do."""
    monkeypatch.setenv("ANVIL", str(tmp_path / "nowhere"))
    with pytest.raises(AnvilMissingError, match=r"nowhere.*variable ANVIL.*make install"), start_anvil():
        pass


def test_a_node_that_refuses_its_arguments_is_explained() -> None:
    """What anvil wrote is in the error, and nothing waits for the deadline."""
    with (
        pytest.raises(AnvilNotReadyError, match=r"exit code 2.*--no-such-flag"),
        start_anvil(extra_args=["--no-such-flag"]),
    ):
        pass
