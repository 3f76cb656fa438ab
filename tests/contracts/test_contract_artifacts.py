"""The committed artifacts are what the committed sources compile to, and `build.py` notices when they are not."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.contracts import load_artifact

CONTRACTS_DIR = Path(__file__).resolve().parents[2] / "deploy/contracts"
KEYS = ["contract", "compiler", "evm_version", "source_sha256", "abi", "bytecode", "runtime_bytecode"]
MAX_RUNTIME_BYTES = 24_576  # EIP-170


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """`deploy/contracts/build.py`, which is a script in no package."""
    spec = importlib.util.spec_from_file_location("contracts_build", CONTRACTS_DIR / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_artifacts_match_the_sources() -> None:
    """What gets deployed is what can be read and recompiled: every byte, by running the compiler."""
    command = [sys.executable, str(CONTRACTS_DIR / "build.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_changed_source_is_named_and_a_rebuild_settles_it(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check exits 1, names the stale artifact and writes nothing; a build makes it pass again."""
    copy = Path(shutil.copytree(CONTRACTS_DIR, tmp_path / "contracts"))
    monkeypatch.setattr(build, "CONTRACTS", ("RangeMarket",))  # the quick one to compile
    check = ["--check", "--dir", str(copy)]
    source, artifact = copy / "RangeMarket.vy", copy / "artifacts/RangeMarket.json"
    source.write_text(source.read_text().replace("market: strike is zero", "market: strike is nought"))
    before = artifact.read_bytes()
    assert build.main(check) == 1
    assert str(artifact) in capsys.readouterr().err
    assert artifact.read_bytes() == before
    assert build.main(["--dir", str(copy)]) == 0
    assert artifact.read_bytes() != before
    assert build.main(check) == 0
    artifact.unlink()
    assert build.main(check) == 1


@pytest.mark.parametrize(
    "name, evm_version",
    [
        ("BatchExecutor", "cancun"),
        ("EffectsProbe", "paris"),
        ("IntentRegistry", "cancun"),
        ("NavFeed", "cancun"),
        ("OperatorVault", "cancun"),
        ("RangeMarket", "cancun"),
        ("RoundBook", "cancun"),
    ],
)
def test_an_artifact_has_the_agreed_shape(name: str, evm_version: str) -> None:
    """Stable keys in a stable order, pretty, newline at the end; code within EIP-170 that holds its runtime."""
    text = (CONTRACTS_DIR / f"artifacts/{name}.json").read_text()
    artifact = json.loads(text)
    assert list(artifact) == KEYS
    assert text == json.dumps(artifact, indent=2) + "\n"
    assert artifact == load_artifact(name)
    assert (artifact["contract"], artifact["compiler"], artifact["evm_version"]) == (name, "vyper 0.4.3", evm_version)
    assert len(bytes.fromhex(artifact["runtime_bytecode"][2:])) < MAX_RUNTIME_BYTES
    assert artifact["runtime_bytecode"][2:] in artifact["bytecode"]
