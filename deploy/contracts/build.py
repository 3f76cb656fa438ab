"""Compiles the Vyper sources in this directory into `artifacts/*.json`, the form in which they are committed.

`python deploy/contracts/build.py` writes them; `--check` writes nothing and exits 1 naming each artifact that does not
match its source. Needs the PyPI package `vyper` in the version the sources pin, and no network. Called by people and by
the tests; the supervisor reads only the committed JSON.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from vyper import __version__ as vyper_version
from vyper.compiler import compile_code

CONTRACTS_DIR = Path(__file__).resolve().parent
CONTRACTS = ("BatchExecutor", "EffectsProbe", "IntentRegistry", "NavFeed", "OperatorVault", "RangeMarket", "RoundBook")
OUTPUTS = ("abi", "bytecode", "bytecode_runtime", "settings_dict")


def compute_artifact(name: str, sources_dir: Path = CONTRACTS_DIR) -> str:
    """Compile one contract; return its artifact as JSON text with a stable order and a trailing newline."""
    source = (sources_dir / f"{name}.vy").read_bytes()
    # The EVM version and the compiler version come from the pragmas in the source, so every build agrees on them.
    compiled = compile_code(source.decode(), contract_path=f"{name}.vy", output_formats=OUTPUTS)
    artifact = {
        "contract": name,
        "compiler": f"vyper {vyper_version.split('+')[0]}",
        "evm_version": compiled["settings_dict"]["evm_version"],
        "source_sha256": hashlib.sha256(source).hexdigest(),
        "abi": compiled["abi"],
        "bytecode": compiled["bytecode"],
        "runtime_bytecode": compiled["bytecode_runtime"],
    }
    return json.dumps(artifact, indent=2) + "\n"


def find_stale_artifacts(contracts_dir: Path = CONTRACTS_DIR) -> list[Path]:
    """Paths of the artifacts that are missing or differ from what their source compiles to."""
    stale = []
    for name in CONTRACTS:
        path = contracts_dir / "artifacts" / f"{name}.json"
        if not path.is_file() or path.read_text() != compute_artifact(name, contracts_dir):
            stale.append(path)
    return stale


def write_artifacts(contracts_dir: Path = CONTRACTS_DIR) -> list[Path]:
    """Compile every contract and write its artifact; return the paths."""
    paths = []
    for name in CONTRACTS:
        path = contracts_dir / "artifacts" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(compute_artifact(name, contracts_dir))
        paths.append(path)
    return paths


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 naming each stale artifact")
    parser.add_argument("--dir", type=Path, default=CONTRACTS_DIR, help="where the .vy files are (default: here)")
    arguments = parser.parse_args(argv)
    if not arguments.check:
        for path in write_artifacts(arguments.dir):
            print(f"wrote {path}")
        return 0
    stale = find_stale_artifacts(arguments.dir)
    for path in stale:
        print(f"stale: {path} (run: python deploy/contracts/build.py)", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
