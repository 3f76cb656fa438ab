"""Installed packages of third parties, in a directory of their own: a module each, and its entry points."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, source: str, entry_points: Mapping[str, str]) -> None:
    """Write the module `name`, and the metadata of a package of that name. `entry_points`: `group/name` to object."""
    site.mkdir(exist_ok=True)
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for place, target in entry_points.items():
        group, _, entry = place.partition("/")
        lines += [f"[{group}]", f"{entry} = {name}:{target}"]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
