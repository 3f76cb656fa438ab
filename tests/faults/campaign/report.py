"""What a campaign prints: the seed first, a line now and then, and at the end counts of everything that was done."""

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.campaign.plan import Fault
from tests.faults.checker import Findings


@dataclass(slots=True)
class Report:
    """The counts of one campaign."""

    seed: int
    wanted: int
    broken: str | None = None
    done: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    crashed_at: Counter[str] = field(default_factory=Counter)
    reached: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    starts: int = 0
    longest_gap: int = 0
    settled_s: float = 0.0
    legs: int = 0
    began: float = field(default_factory=time.monotonic)

    def hit(self, fault: Fault) -> None:
        """It happened. Called from any thread."""
        self.done[fault.kind] += 1

    def add(self, leg: "Report") -> None:
        """What one leg of this campaign did and found."""
        self.legs += 1
        for mine, its in ((self.done, leg.done), (self.missed, leg.missed), (self.crashed_at, leg.crashed_at)):
            mine.update(its)
        for point, count in leg.reached.items():
            self.reached[point] = self.reached.get(point, 0) + count
        self.problems += leg.problems
        self.unexpected += leg.unexpected
        self.findings += leg.findings
        self.starts += leg.starts
        self.longest_gap = max(self.longest_gap, leg.longest_gap)
        self.settled_s = max(self.settled_s, leg.settled_s)

    @property
    def duration_s(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def total(self) -> int:
        """Faults that happened."""
        return sum(self.done.values())

    @property
    def is_clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return not (self.problems or self.findings.problems)

    def progress(self, last: Fault) -> str:
        """One line."""
        return f"{self.duration_s:7.1f} s  {self.total:6} faults, {self.starts:4} starts; last {last}"

    def summary(self) -> str:
        """All legs so far, in one line."""
        found = self.findings
        return (
            f"{self.total} faults on {self.legs} chains in {self.duration_s:.0f} s; {found.effects} effects, "
            f"{found.duplicate_effects} duplicate, {found.lost_calls} calls lost, {found.stuck_nonces} nonces stuck"
        )

    def __str__(self) -> str:
        found = self.findings
        lines = [f"{'fault':32} {'done':>6} {'missed':>6}"]
        kinds = sorted(self.done.keys() | self.missed.keys())
        lines += [f"{kind:32} {self.done[kind]:6} {self.missed[kind]:6}" for kind in kinds]
        lines += ["", f"{'crash point':32} {'kills':>6} {'reached':>7}"]
        lines += [f"{point:32} {self.crashed_at[point]:6} {count:7}" for point, count in self.reached.items()]
        lines += [
            "",
            f"faults             {self.total} on {max(1, self.legs)} chains in {self.duration_s:.0f} s",
            f"supervisor         {self.starts} starts, {len(self.unexpected)} after an end of its own",
            f"calls              {found.calls}, outcomes {dict(sorted(found.outcomes.items()))}",
            f"decisions          {found.decisions}",
            f"transactions       {found.transactions} on chain, {found.attempts} signed",
            f"effects            {found.effects}",
            f"longest nonce wait {self.longest_gap} blocks; at rest {self.settled_s:.1f} s after the last fault",
            f"duplicate effects  {found.duplicate_effects}",
            f"lost calls         {found.lost_calls}",
            f"stuck nonces       {found.stuck_nonces}",
        ]
        for end in self.unexpected[:5]:
            lines.append(f"ended by itself: {end}")
        lines += [f"PROBLEM: {problem}" for problem in dict.fromkeys((*self.problems, *found.problems))]
        again = f"FAULT_SEED={self.seed} make faults N={self.wanted}" + (f" BREAK={self.broken}" if self.broken else "")
        lines.append(f"{'clean' if self.is_clean else 'FAILED'}: {again}")
        return "\n".join(lines)
