"""A process that runs one embedded cluster: `python -m tests.support.postgres_host DATA_DIR RUNTIME_DIR`.

Prints one line of JSON when the server is ready (`dsn`, `seconds`) or refused (`error`, `text`), and stops it when its
standard input ends. For the fixtures, and for tests that kill what runs a cluster.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from runnerd.store.embedded import EmbeddedPostgres
from runnerd.store.errors import StoreError


async def host(data_dir: Path, runtime_dir: Path) -> int:
    """Start, report, wait for the end of standard input, stop."""
    server = EmbeddedPostgres(data_dir, runtime_dir)
    began = time.monotonic()
    try:
        dsn = await server.start()
    except StoreError as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
        return 1
    print(json.dumps({"dsn": dsn, "seconds": time.monotonic() - began}), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    await server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(host(Path(sys.argv[1]), Path(sys.argv[2]))))
