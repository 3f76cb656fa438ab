"""A worker without its sandbox: binds the link as `workers.birth` does, runs `workers.loop.run`, and exits as it does.

Started by `tests.support.worker_process` as `python -m tests.support.worker_harness ADDRESS KIND VALUE GENERATION`.
Writes one line to stdout when the link is bound.
"""

import asyncio
import os
import sys
import traceback
from typing import NoReturn

import msgspec
import zmq

from protocol.limits import LINK_HWM, MAX_FRAME_BYTES
from protocol.zygote import LoopSettings, PluginSource
from workers.locate import identify
from workers.loop import run

BOUND = "bound"


def main(address: str, kind: str, value: str, generation: str) -> NoReturn:
    """Live and die as a worker."""
    status = 1
    try:
        source = msgspec.convert({"kind": kind, "value": value}, PluginSource)
        link = zmq.Context(io_threads=1).socket(zmq.DEALER)
        link.setsockopt(zmq.LINGER, 0)
        link.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        link.setsockopt(zmq.SNDHWM, LINK_HWM)
        link.setsockopt(zmq.RCVHWM, LINK_HWM)
        link.bind(address)
        print(BOUND, flush=True)
        run(link, asyncio.new_event_loop(), identify(source), LoopSettings(generation=int(generation)))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
