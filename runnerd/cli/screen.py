"""Redraws one frame over another on a terminal, without flicker; elsewhere frames follow one another."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from rich.console import Console

_HOME: Final = "\x1b[H"
_ERASE_LINE: Final = "\x1b[K"
_ERASE_BELOW: Final = "\x1b[J"


class Screen:
    """The terminal's second screen for as long as the block lasts: what was there before comes back."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)

    @contextmanager
    def frame(self) -> Iterator[None]:
        """What is printed in the block replaces the frame before it, cut at the height of the terminal."""
        with self._console.capture() as capture:
            yield
        text = capture.get()
        if self._console.is_terminal:
            lines = text.splitlines()[: self._console.height - 1]
            text = _HOME + "".join(f"{line}{_ERASE_LINE}\n" for line in lines) + _ERASE_BELOW
        self._console.file.write(text if self._console.is_terminal else f"{text}\n")
        self._console.file.flush()
