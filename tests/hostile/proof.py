"""`tests/hostile/prove`: runs the hostile suite once as it is and once without each layer, and prints layers × tests.

A layer that nobody misses is either useless or untested. Exit code 0 if each is missed by `ENOUGH` named tests at
least, 1 if not. A test counts if it failed in its own body: a daemon that does not start at all proves nothing. The
layers are removed by `weak_zygote`, which is test code; the program itself has no such switch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.conftest import WITHOUT
from tests.hostile.weak_zygote import WITHOUT as LAYERS

HERE = Path(__file__).parent
FILES = ("test_probes.py", "test_layers.py", "test_floods.py")
"""Those whose subject is the sandbox; the others are about the supervisor."""
NOT_OF_A_LAYER = "not log_lines and not stdout and not state_and_no_more"
"""Floods that the supervisor's own bounds meet."""
ENOUGH = 3
DEADLINE_S = 1_200


@dataclass(frozen=True, slots=True)
class Run:
    """What came of the suite: the names of the tests that passed, failed, and did not get as far."""

    passed: frozenset[str]
    failed: frozenset[str]
    broken: frozenset[str]


def read(report: str) -> Run:
    """A run from pytest's JUnit report."""
    names: dict[str, set[str]] = {"passed": set(), "failed": set(), "broken": set()}
    for case in ET.fromstring(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if "skipped" not in kinds:
            kind = "failed" if "failure" in kinds else "broken" if "error" in kinds else "passed"
            names[kind].add(case.attrib["name"])
    return Run(**{kind: frozenset(found) for kind, found in names.items()})


def short(name: str) -> str:
    """`test_a_plugin_cannot[read_the_keystore]` → `read_the_keystore`; of one layer by itself: `… (landlock alone)`."""
    function, _, parameter = name.removesuffix("]").partition("[")
    if function == "test_a_layer_refuses_by_itself":
        layer, name, _ = parameter.split("-")
        return f"{name} ({layer} alone)"
    return parameter if function in ("test_a_plugin_cannot", _ATTACK) else name.removeprefix("test_")


_ATTACK = "test_an_attack_ends_its_worker_and_quarantines_the_plugin"


def matrix(runs: Mapping[str, Run]) -> list[str]:
    """One line per test that some layer's absence makes fail, `x` below each such layer."""
    names = sorted({name for run in runs.values() for name in run.failed}, key=lambda name: (short(name), name))
    width = max((len(short(name)) for name in names), default=0)
    head = [f"{'':{width}}  {'│ ' * number}{layer}" for number, layer in enumerate(runs)]
    rows = [
        f"{short(name):{width}}  {' '.join('x' if name in run.failed else '·' for run in runs.values())}"
        for name in names
    ]
    return [*head, *rows]


def table(runs: Mapping[str, Run]) -> list[str]:
    """The same in Markdown by layers, for docs/security.md. A star: some other layer's absence fails the test, too."""
    lines = ["| layer removed | tests that fail | which |", "| --- | --- | --- |"]
    for layer, run in runs.items():
        others = {name for other, its in runs.items() if other != layer for name in its.failed}
        names = sorted(f"`{short(name)}`{'*' if name in others else ''}" for name in run.failed)
        lines.append(f"| {layer} | {len(run.failed)} | {', '.join(names)} |")
    return lines


def suite(layer: str, wanted: str) -> Run:
    """Run what pytest's -k takes of it without `layer`; with all of them if that is empty."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"),
                *(str(HERE / name) for name in FILES),
                f"--junitxml={report}",
                *("-k", wanted),
            ],
            env={**os.environ, WITHOUT: layer},
            stdout=subprocess.DEVNULL,
            timeout=DEADLINE_S,
            check=False,
        )
        return read(report.read_text("utf-8"))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="prove", description=__doc__)
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"of {', '.join(LAYERS)}; all by default")
    parser.add_argument("-k", default="", help="only the tests that pytest's -k takes")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/security.md as well")
    asked = parser.parse_args()
    if unknown := set(asked.layers) - set(LAYERS):
        parser.error(f"no such layer: {', '.join(sorted(unknown))}")
    wanted = f"({asked.k or 'test'}) and {NOT_OF_A_LAYER}"

    whole = suite("", wanted)
    print(f"with every layer: {len(whole.passed)} tests pass", flush=True)
    if bad := whole.failed | whole.broken:
        print(f"but these do not, so there is nothing to compare with: {', '.join(sorted(bad))}")
        return 1
    runs: dict[str, Run] = {}
    for layer in asked.layers or LAYERS:
        # Of the tests of one layer alone, those of this one: the others do without it anyway.
        run = runs[str(layer)] = suite(layer, f"{wanted} and (not refuses_by_itself or {layer}-)")
        print(
            f"without {layer}: {len(run.failed)} fail, {len(run.passed)} pass, {len(run.broken)} cannot be run",
            flush=True,
        )
    print("", *matrix(runs), *(["", *table(runs)] if asked.markdown else []), sep="\n")
    unproven = [layer for layer, run in runs.items() if len(run.failed) < ENOUGH]
    print("", *(f"fewer than {ENOUGH} tests miss {layer}" for layer in unproven), sep="\n")
    return 1 if unproven else 0


if __name__ == "__main__":
    sys.exit(main())
