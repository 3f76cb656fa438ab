"""`make faults N=10000`: one campaign, by environment.

FAULT_SEED and N; FAULT_SECONDS ends the faults earlier; BREAK swaps two steps; KINDS and POINTS (comma-separated) leave
out all other faults and crash points.
"""

import logging
import os
import secrets
import signal
import sys

from tests.faults.campaign.driver import Order
from tests.faults.campaign.legs import run_legs
from tests.faults.campaign.plan import WEIGHTS
from tests.support.crashing_daemon import BREAKS

DEFAULT_FAULTS = 1_000


def main() -> int:
    """0 if nothing is wrong, 1 otherwise, 64 for a wrong word in the environment."""
    logging.basicConfig(level=logging.CRITICAL)  # that PostgreSQL ended is no news here
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process of it is ended
    given = os.environ
    broken = given.get("BREAK") or None
    kinds = [kind.strip() for kind in given.get("KINDS", "").split(",") if kind.strip()]
    unknown = [f"BREAK={broken}; allowed: {', '.join(BREAKS)}"] if broken not in (None, *BREAKS) else []
    unknown += [f"KINDS={kind}; allowed: {', '.join(WEIGHTS)}" for kind in kinds if kind not in WEIGHTS]
    if unknown:
        print("\n".join(unknown), file=sys.stderr)
        return 64
    report = run_legs(
        Order(
            seed=int(given.get("FAULT_SEED") or secrets.randbelow(1 << 32)),
            faults=int(given.get("N") or DEFAULT_FAULTS),
            kinds=kinds,
            points=[point for point in given.get("POINTS", "").split(",") if point],
            broken=broken,
            longest_s=float(given.get("FAULT_SECONDS") or "inf"),
            judge_every=25 if broken else 500,
            say=lambda line: print(line, flush=True),
        )
    )
    print(report)
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
