"""The digests of plugins' code, for an operator who asks outside of a worker: `python -I -m workers.identify`.

Reads {name: PluginSource} from stdin and writes {name: Identified} to stdout, both JSON. Runs no code of a plugin.
Started by `runnerd.cli.codes`.
"""

import sys

import msgspec

from protocol.zygote import Identified, PluginSource
from workers.locate import identify
from workers.sdk.plugin import PluginError


def main() -> None:
    """Answer once."""
    sources = msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, PluginSource])
    answers = {name: _look(source) for name, source in sources.items()}
    sys.stdout.buffer.write(msgspec.json.encode(answers))


def _look(source: PluginSource) -> Identified:
    before = [*sys.path]
    try:
        return Identified(digest=identify(source).digest)
    except PluginError as error:
        return Identified(problem=str(error))
    finally:
        sys.path[:] = before  # the packages of one plugin are not those of the next


if __name__ == "__main__":
    main()
