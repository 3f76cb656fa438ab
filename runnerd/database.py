"""Where the ledger is: the configured PostgreSQL, or a private cluster that is kept alive. Opened by the app."""

from runnerd.config.model import Config
from runnerd.store.embedded import EmbeddedPostgres
from runnerd.tasks import Tasks


class Database:
    """`async with Database(config) as dsn`: the DSN to use, as long as the block lasts."""

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
