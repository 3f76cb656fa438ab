"""Statements about keys of the HTTP API. No secret is in them: only its digest."""

from datetime import datetime

from runnerd.store.statement import Statement
from runnerd.webhooks.keys import ApiKey


def add(key: ApiKey) -> Statement:
    """Add a key; a row comes back if its name was free. Run again, it finds its own row by the digest."""
    return Statement(
        """
        insert into api_keys (name, kind, digest, plugins, created_at, created_by, expires_at)
        values (%(name)s, %(kind)s, %(digest)s, %(plugins)s, %(created_at)s, %(created_by)s, %(expires_at)s)
        on conflict (name) do update set name = api_keys.name where api_keys.digest = excluded.digest
        returning name
        """,
        {
            "name": key.name,
            "kind": key.kind.value,
            "digest": key.digest,
            "plugins": list(key.plugins),
            "created_at": key.created_at,
            "created_by": key.created_by,
            "expires_at": key.expires_at,
        },
    )


def revoke(name: str, by: str, at: datetime) -> Statement:
    """From now on it is worth nothing; the first to revoke it stands."""
    return Statement(
        "update api_keys set revoked_at = %(at)s, revoked_by = %(by)s where name = %(name)s and revoked_at is null",
        {"name": name, "by": by, "at": at},
    )


def every() -> Statement:
    """All keys, the revoked ones as well."""
    return Statement("select * from api_keys order by created_at, name")
