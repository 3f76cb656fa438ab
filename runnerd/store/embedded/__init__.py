"""A private PostgreSQL for those who name none: `EmbeddedPostgres` makes, starts, watches and stops it."""

from runnerd.store.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
