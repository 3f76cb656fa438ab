"""The end of a worker's stderr in one line: the error first, since the end of a long line is what is cut."""

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.zygote import PluginSource
from runnerd.supervisor.last_words import last_words
from workers.loader import load
from workers.locate import identify
from workers.sdk.plugin import PluginError


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None of what a test imports stays."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_last_words_are_the_last_lines() -> None:
    """In one line, for a reason."""
    assert last_words(["a", " b", "c", "d "]) == "b | c | d"
    assert last_words([]) == ""


def test_last_words_of_a_dump_are_its_head_and_innermost_frames() -> None:
    """faulthandler writes many lines; the last ones are the least telling."""
    dump = [
        "before",
        "Fatal Python error: Aborted",
        "",
        "Current thread 0x00007f (most recent call first):",
        '  File "plugin.py", line 7 in spin',
        '  File "plugin.py", line 3 in decide',
        '  File "loop.py", line 100 in _call',
        '  File "loop.py", line 1 in run',
        "Extension modules: msgspec._core (total: 1)",
    ]
    assert last_words(dump) == (
        'Fatal Python error: Aborted | File "plugin.py", line 7 in spin | File "plugin.py", line 3 in decide'
        ' | File "loop.py", line 100 in _call'
    )


def traceback_of(error: BaseException) -> list[str]:
    """As a worker prints it."""
    return "".join(traceback.format_exception(error)).splitlines()


def test_of_a_traceback_the_error_and_the_plugins_line_come_first(tmp_path: Path) -> None:
    """Python writes them last, below our own loader's frames; the frames of the plugin follow."""
    file = tmp_path / "drift.py"
    file.write_text("import json\n\ndef size():\n    return json.loads('{')\n\nSIZE = size()\n")
    with pytest.raises(ValueError, match="property name") as caught:
        load(identify(PluginSource(kind="path", value=str(file))))
    words = last_words(["starting", *traceback_of(caught.value)])
    text, *frames = words.split(" | ")
    assert text.startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert text.endswith(f"(at {file}:4)")
    assert frames[:2] == [f'File "{file}", line 6, in <module>', f'File "{file}", line 4, in size']
    assert "loader.py" not in words


def test_what_a_plugin_error_says_is_enough(tmp_path: Path) -> None:
    """It is a sentence for the operator, and names the file."""
    file = tmp_path / "empty.py"
    file.write_text("")
    with pytest.raises(PluginError) as caught:
        load(identify(PluginSource(kind="path", value=str(file))))
    words = last_words(["starting", *traceback_of(caught.value)])
    assert words == f"{file} defines no class that derives from workers.sdk.Plugin"


def test_a_traceback_that_was_not_the_end_is_not_taken_for_it() -> None:
    """The plugin caught that one, and went on."""
    old = ["Traceback (most recent call last):", '  File "x.py", line 1, in f', "ValueError: old"]
    assert last_words([*old, *(f"line {n}" for n in range(20))]) == "line 17 | line 18 | line 19"
    assert last_words(old[:2]) == 'Traceback (most recent call last): | File "x.py", line 1, in f'


def test_of_several_lines_of_an_error_the_first_are_shown_and_a_defect_of_ours_keeps_its_place() -> None:
    """Where no frame is a plugin's."""
    lines = [
        "Traceback (most recent call last):",
        '  File "/x/workers/birth.py", line 9, in f',
        "    f()",
        "OSError: a",
        " b",
    ]
    assert last_words(lines) == 'OSError: a | b (at /x/workers/birth.py:9) | File "/x/workers/birth.py", line 9, in f'
