"""`runnerctl doctor --unlock` reads passphrases and keys: it takes the same care as the daemon."""

from pathlib import Path

import pytest

from runnerd.wallets.keystore import create_keystore
from runnerd.wallets.passphrase import Passphrase
from tests.cli.configs import write_config
from tests.cli.running import run_spied


@pytest.mark.integration
@pytest.mark.parametrize("options, is_protected", [(["--unlock"], True), ([], False)])
def test_memory_is_protected_before_a_key_is_read(tmp_path: Path, options: list[str], is_protected: bool) -> None:
    """No core file, and no debugger of this user. Without the option only the keystore's header is read."""
    config = write_config(tmp_path)
    keystore, secret = tmp_path / "operator.json", tmp_path / "passphrase"
    keystore.unlink()
    create_keystore(keystore, Passphrase(b"right"), kdf_work=2)
    secret.write_text("right\n")
    opened = run_spied("--config", str(config), "doctor", *options, secrets=[keystore, secret])
    assert opened == ({str(keystore): True, str(secret): True} if is_protected else {str(keystore): False})
