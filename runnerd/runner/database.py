"""The ledger's database for the length of a run: the configured one, or a private cluster. Made by the app."""

from runnerd.config.model import Config
from runnerd.store.embedded import EmbeddedPostgres
from runnerd.tasks import Tasks


class Database:
    """The DSN to use: the configured one, or that of a private cluster that is kept alive as long as the block."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tasks = Tasks()
        self._embedded: EmbeddedPostgres | None = None

    async def __aenter__(self) -> str:
        if self._config.database.dsn is not None:
            return self._config.database.dsn
        self._embedded = EmbeddedPostgres(self._config.data_dir, self._config.runtime_dir)
        dsn = await self._embedded.start()
        self._tasks.spawn(self._embedded.keep(), "database:keep")
        return dsn

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.cancel()
        if self._embedded is not None:
            await self._embedded.stop()
