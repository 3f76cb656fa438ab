"""Which sandbox layers this host has. Asks the untrusted side's own probe, in a process of its own, as workers are.

The two sides share no code: what comes back is one JSON object, layer by layer.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from runnerd.cli.doctor.finding import Finding, bad, good, weak

PROBE: Final = (sys.executable, "-I", "-m", "workers.sandbox.probe")
DEADLINE_S: Final = 30.0


class LayerProbe(msgspec.Struct, frozen=True):
    """What the probe says of one layer. `cost`: what a plugin could do without it. Required: part of the floor,
    without which no plugin is started (docs/security.md)."""

    available: bool
    is_required: bool
    detail: str
    cost: str | None = None
    remedy: str | None = None


_decoder: msgspec.json.Decoder[dict[str, LayerProbe]] = msgspec.json.Decoder(dict[str, LayerProbe])


def examine_sandbox(probe: Sequence[str] = PROBE) -> list[Finding]:
    """A finding for each layer. A missing layer of the floor is bad, any other weak."""
    try:
        asked = subprocess.run(list(probe), capture_output=True, timeout=DEADLINE_S, check=False, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return [_failed(str(error))]
    try:
        layers = _decoder.decode(asked.stdout)
    except (ValueError, RecursionError):
        tail = asked.stderr.decode(errors="replace").strip().splitlines()
        return [_failed(tail[-1] if tail else f"exit code {asked.returncode} and no answer")]
    return [_finding(name, layer) for name, layer in layers.items()]


def _finding(name: str, layer: LayerProbe) -> Finding:
    if layer.available:
        return good(name, layer.detail)
    if layer.is_required:
        cost = f"no plugin is started: without it {layer.cost}" if layer.cost else "no plugin is started"
        return bad(name, layer.detail, cost=cost, remedy=layer.remedy or "")
    return weak(name, layer.detail, cost=layer.cost or "", remedy=layer.remedy or "")


def _failed(reason: str) -> Finding:
    return bad("probe", f"the layers cannot be probed: {reason}", cost="plugins may not start")
