"""What a sandboxed worker is like when runnerd runs as whoever runs this: one JSON object. Started by `test_modes`."""

import json
import os
import sys

from runnerd.cli.doctor.host import examine_user_namespaces
from runnerd.supervisor.monitor import read_usage
from tests.support.probes import outside, probe_host

INSIDE = """
    import concurrent.futures, os, signal, socket
    attempt(lambda: open("/proc/self/environ").read() and open("/etc/hostname"))
    attempt(lambda: os.listdir("/"))
    attempt(lambda: socket.socket(socket.AF_UNIX))
    attempt(lambda: os.fork() or os._exit(0))
    attempt(lambda: os.kill(os.getppid() or 2, 0))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print(sum(pool.map(int, "1234")))
"""
ATTACK = "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0); print('answered')"


def main() -> None:
    """Run them, and print what came of it."""
    with probe_host() as host:
        inside, attack = host.run(INSIDE), host.run(ATTACK)

        async def look() -> tuple[int, int, int]:
            running = await host.start(host.request("print('up', flush=True); loop.run_forever()"))
            try:
                await running.line()
                usage = read_usage(running.worker.pid)
                assert usage is not None
                return usage.memory_bytes, usage.threads, usage.files
            finally:
                running.close()

        memory_bytes, threads, files = host.wait_for(look())
    layers = {report.layer.value: report.detail if report.is_applied else None for report in inside.layers}
    refusals = examine_user_namespaces(has_namespaces=layers["namespaces"] is not None)
    found = {
        "uid": os.getuid(), "outside": outside(INSIDE),
        "said": inside.said, "stderr": inside.stderr, "attacks": attack.attacks,
        "answered": attack.said, "layers": layers, "memory_bytes": memory_bytes, "threads": threads, "files": files,
        "doctor": [finding.subject for finding in refusals],
    }  # fmt: skip
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
