"""A plugin whose file is changed while it runs, by others or, if it can, by itself."""

import gc
import sys
import time
from pathlib import Path

import zmq

from workers.sdk import Context, Noop, Plugin

VERSION = 0


class Chameleon(Plugin):
    """`do` is `show`, or names one of the functions below."""

    name = "chameleon"

    def decide(self, ctx: Context) -> Noop:
        """Say which version this is, once the rest is done."""
        do = ctx.call.json()["do"]
        try:
            if do != "show":
                DEEDS[do]()
        except OSError as error:
            return Noop(f"denied: {error}")
        return Noop(f"version {VERSION}")


def rewrite_itself() -> None:
    with Path(__file__).open("a") as code:
        code.write("VERSION = 9\n")


def become_a_symlink() -> None:
    other = Path(__file__).with_suffix(".other")
    Path(__file__).rename(other)
    Path(__file__).symlink_to(other)


def say_at_once(frame: bytes) -> None:
    """Through the worker's socket, before its first message."""
    link = next(found for found in gc.get_objects() if isinstance(found, zmq.Socket) and not found.closed)
    link.send(frame)
    time.sleep(0.2)  # let the I/O thread work


DEEDS = {"rewrite_itself": rewrite_itself, "become_a_symlink": become_a_symlink}

if __name__ == "__main__":
    DEEDS[sys.argv[1]]()
