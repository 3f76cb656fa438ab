"""Which results a consumer is given, by what its table in the configuration says."""

from collections.abc import Collection
from dataclasses import dataclass

from runnerd.store.calls import JobResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Empty means all."""

    plugins: Collection[str] = ()
    outcomes: Collection[str] = ()

    def includes(self, result: JobResult) -> bool:
        """By plugin and outcome."""
        return (not self.plugins or result.call.plugin in self.plugins) and (
            not self.outcomes or result.outcome.value in self.outcomes
        )


EVERYTHING = Selection()
