"""The floor of NOTIFY → accepted: the same steps with nothing between them, in one process, on the same servers.

NOTIFY → ZeroMQ round trip to another process → three durable one-row commits → sign → eth_sendRawTransaction.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import uvloop
import zmq
from eth_account import Account
from web3 import Web3

from runnerd.chain.rpc import Rpc
from runnerd.wallets.keystore import create_keystore, unlock_keystore
from runnerd.wallets.passphrase import Passphrase
from runnerd.wallets.transaction import UnsignedTransaction

ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER); socket.bind(sys.argv[1])
while True:
    socket.send(socket.recv())
"""
GAP_S = 0.05


def measure_floor(w3: Web3, url: str, dsn: str, rounds: int) -> list[float]:
    """Seconds from NOTIFY to the node's answer, once per round."""
    with tempfile.TemporaryDirectory(prefix="rd-") as directory:
        address = f"ipc://{directory}/echo"
        echo = subprocess.Popen([sys.executable, "-c", ECHO, address])
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_measure(w3, url, dsn, address, Path(directory), rounds))
        finally:
            echo.kill()
            echo.wait()


async def _measure(w3: Web3, url: str, dsn: str, address: str, directory: Path, rounds: int) -> list[float]:
    loop = asyncio.get_running_loop()
    key = os.urandom(32)
    passphrase = Passphrase(b"bench")
    create_keystore(directory / "key.json", passphrase, key, kdf_work=1 << 10)
    signer = unlock_keystore(directory / "key.json", passphrase)
    owner = w3.eth.accounts[0]
    payer = Account.from_key(key).address
    funded = w3.eth.send_transaction({"from": owner, "to": payer, "value": Web3.to_wei(10, "ether")})
    w3.eth.wait_for_transaction_receipt(funded)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    rpc = Rpc(url)
    listener = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    writer = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    sender = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await writer.execute("create table if not exists bench_floor (id bigint generated always as identity, t text)")
    await listener.execute("listen bench_floor")
    heard: asyncio.Future[None] = loop.create_future()
    echoed: asyncio.Future[None] = loop.create_future()

    def on_notify() -> None:
        listener.pgconn.consume_input()
        while listener.pgconn.notifies() is not None:
            if not heard.done():
                heard.set_result(None)

    def on_echo() -> None:
        while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            socket.recv(zmq.NOBLOCK)
            if not echoed.done():
                echoed.set_result(None)

    loop.add_reader(listener.fileno(), on_notify)
    loop.add_reader(socket.fileno(), on_echo)
    frame = json.dumps({"payload": "x" * 900}).encode()
    took = []
    for number in range(rounds):
        await asyncio.sleep(GAP_S)
        heard, echoed = loop.create_future(), loop.create_future()
        began = time.perf_counter()
        await sender.execute("select pg_notify('bench_floor', 'x')")
        await heard
        socket.send(frame, zmq.NOBLOCK)
        on_echo()
        await echoed
        for _ in range(3):
            await writer.execute("insert into bench_floor (t) values ('x')", prepare=True)
        signed = await signer.sign(
            UnsignedTransaction(
                chain_id=31337, nonce=number, to=owner, value_wei=1, data=b"", gas_limit=21_000,
                max_fee_per_gas_wei=10**11, max_priority_fee_per_gas_wei=10**6,
            )
        )  # fmt: skip
        await rpc.call("eth_sendRawTransaction", ["0x" + signed.raw.hex()])
        took.append(time.perf_counter() - began)
    loop.remove_reader(listener.fileno())
    loop.remove_reader(socket.fileno())
    socket.close(linger=0)
    await rpc.close()
    for connection in (listener, writer, sender):
        await connection.close()
    return took
