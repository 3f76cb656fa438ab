"""What must never leave the supervisor, and where the tests look for it: files, the ledger, processes, memory.

Every search has a positive control in the tests that use it: a place where it must find something.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
from eth_account import Account

CHUNK_BYTES = 1 << 20

Secrets = Mapping[str, bytes]
"""Name of a secret → its bytes in one spelling."""


def secrets_in(directory: Path) -> Secrets:
    """Key (as bytes and as hex) and passphrase of the wallet that `make_keystore` put into `directory`."""
    passphrase = (directory / "passphrase").read_text().strip()
    key = bytes(Account.decrypt(json.loads((directory / "operator.json").read_text()), passphrase))
    spelled = key.hex().encode()
    return {"key": key, "key in hex": spelled, "key in HEX": spelled.upper(), "passphrase": passphrase.encode()}


def find_in(data: bytes, secrets: Secrets) -> set[str]:
    """The names of the secrets in `data`."""
    return {name for name, secret in secrets.items() if secret in data}


def find_in_files(directory: Path, secrets: Secrets) -> dict[Path, set[str]]:
    """Every file below `directory` that holds a secret."""
    paths = (Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    found: dict[Path, set[str]] = {}
    for path in paths:
        with suppress(OSError):  # a socket, or a file that the running database has just removed
            names = find_in(path.read_bytes(), secrets)
            if names:
                found[path] = names
    return found


def find_in_ledger(dsn: str, secrets: Secrets) -> tuple[dict[str, set[str]], int]:
    """Every table with a row that holds a secret; and how many rows were looked at."""
    found: dict[str, set[str]] = {}
    count = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f'select t::text from "{table}" t'.encode()).fetchall()
            count += len(rows)
            names = find_in("\n".join(text for (text,) in rows).encode(), secrets)
            if names:
                found[table] = names
    return found, count


def find_in_processes(pids: Iterable[int], secrets: Secrets) -> dict[str, set[str]]:
    """Every `/proc/PID/environ` and `/proc/PID/cmdline` that holds a secret."""
    found: dict[str, set[str]] = {}
    for pid in pids:
        for name in ("environ", "cmdline"):
            with suppress(OSError):  # it has ended, or is not ours to look at
                names = find_in(Path(f"/proc/{pid}/{name}").read_bytes(), secrets)
                if names:
                    found[f"/proc/{pid}/{name}"] = names
    return found


def find_in_memory(pid: int, secrets: Secrets) -> set[str]:
    """The secrets in the readable memory of a process. Needs root; raises PermissionError otherwise."""
    found: set[str] = set()
    overlap = max(map(len, secrets.values()))
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, permissions, *_ = line.split()
            if "r" not in permissions or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(number, 16) for number in span.split("-"))
            for at in range(start, end, CHUNK_BYTES):
                with suppress(OSError, OverflowError):  # a hole, or a mapping of a device
                    memory.seek(at)
                    found |= find_in(memory.read(min(CHUNK_BYTES + overlap, end - at)), secrets)
    return found
