"""Base of everything that holds a secret: it shows its class name only, and refuses to be copied or serialised."""

from typing import NoReturn, SupportsIndex


class Redacted:
    """No repr, str, format, copy, deepcopy or pickle of a subclass ever shows what it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: redacted>"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # copy.copy and copy.deepcopy come through here as well.
        raise TypeError(f"{type(self).__name__} holds a secret and is neither copied nor pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and has no state to show")
