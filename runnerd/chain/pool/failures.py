"""What is kept while one node after the other is asked the same, and raised when none of them answered."""

from runnerd.chain.errors import RpcUnavailable


class Failures:
    """The nodes that did not answer one question."""

    def __init__(self) -> None:
        self._errors: list[RpcUnavailable] = []

    def kept(self) -> "_Catching":
        """A block whose RpcUnavailable is kept instead of raised."""
        return _Catching(self._errors)

    def error(self) -> RpcUnavailable:
        """What to raise when none answered: the error itself if one was asked."""
        if len(self._errors) == 1:
            return self._errors[0]
        return RpcUnavailable("no node answered: " + "; ".join(map(str, self._errors)))


class _Catching:
    def __init__(self, errors: list[RpcUnavailable]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, RpcUnavailable):
            return False
        self._errors.append(error)
        return True
