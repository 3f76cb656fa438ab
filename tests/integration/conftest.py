"""The house: one daemon that the integration tests share. A test that stops or reconfigures one makes its own scene."""

from collections.abc import Iterator

import pytest

from tests.support.scene import Scene, Stage, puppet

PLUGINS: dict[str, dict[str, object]] = {
    "puppet": puppet(triggers=[{"kind": "event", "topic": "orders"}], params={"size": 5, "pairs": ["a", "b"]}),
    "ticker": puppet(triggers=[{"kind": "cron", "every_seconds": 0.2}]),
    "bystander": puppet(),
    "hoarder": puppet(max_state_bytes=2_000, max_state_keys=3, restart={"backoff_first_s": 0.05}),
    "fragile": puppet(restart={"crashes_to_quarantine": 2, "backoff_first_s": 0.05}),
}


@pytest.fixture(scope="session")
def house(stage: Stage) -> Iterator[Scene]:
    """A running daemon: a puppet (event `orders`), a ticker (cron), a bystander, one that two crashes
    quarantine, and one that may keep little state."""
    with stage.scene(PLUGINS) as scene:
        yield scene
