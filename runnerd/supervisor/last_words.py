"""What a worker's stderr ended with, in one line: first what an operator can use, since whoever shows it cuts the end.

Pure. The worker chooses these lines, so they are words and nothing else. All of them are in the log.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

LAST_LINES: Final = 3
MAX_ERROR_LINES: Final = 10
"""An error's text may have several lines; where more follow, the traceback was not the end."""
FRAMES: Final = 5

_HEAD: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'\s+File "(?P<file>[^"]*)", line (?P<line>\d+)')
_OURS: Final = re.compile(r"^<frozen |/workers/(?:\w+/)*\w+\.py$")
_LIBRARY: Final = re.compile(r"/site-packages/|/dist-packages/|/lib(?:64)?/python3")
_CLEAN: Final = "workers.sdk.plugin.PluginError: "


def last_words(tail: Iterable[str]) -> str:
    """Of a faulthandler dump its head and innermost frames; of a traceback its error, the plugin's line and the frames
    that led there; else the end.
    """
    lines = [line.rstrip() for line in tail]
    dumps = [index for index, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if dumps:
        frames = [line.strip() for line in lines[dumps[-1] + 1 :] if line.strip().startswith("File ")]
        return " | ".join([lines[dumps[-1]], *frames[:LAST_LINES]])
    return _of_traceback(lines) or " | ".join(line.strip() for line in lines[-LAST_LINES:])


def _of_traceback(lines: Sequence[str]) -> str | None:
    """None if the end is no traceback."""
    heads = [index for index, line in enumerate(lines) if line == _HEAD]
    body = lines[heads[-1] + 1 :] if heads else []
    end = next((index for index, line in enumerate(body) if line and not line[0].isspace()), len(body))
    error = body[end:]
    if not 1 <= len(error) <= MAX_ERROR_LINES:
        return None
    text = " | ".join(line.strip() for line in error[:LAST_LINES])
    if text.startswith(_CLEAN):
        return text.removeprefix(_CLEAN)
    frames = [(match, line.strip()) for line in body[:end] if (match := _FRAME.match(line))]
    led = [(match, line) for match, line in frames if not _OURS.search(match["file"])] or frames
    own = [match for match, _ in led if not _LIBRARY.search(match["file"])] or [match for match, _ in led]
    if not own:
        return text
    place = f"{own[-1]['file']}:{own[-1]['line']}"
    return " | ".join([f"{text} (at {place})", *(line for _, line in led[-FRAMES:])])
