"""The audit trail's record of a command, which is committed with its effect."""

from datetime import datetime

from runnerd.store import audit
from runnerd.store.statement import Statement


def trail(command: str, principal: str, now: datetime, **details: str) -> Statement:
    """To be part of the commit that the command makes."""
    return audit.append(audit.command(command, principal, now, **details))
