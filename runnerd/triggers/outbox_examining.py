"""Reads what is too large for an ordinary answer, if somebody wants to look into it. Used by the outbox producer."""

import asyncio
import logging

from runnerd.log import fields
from runnerd.triggers.outbox_calls import Examined, examine
from runnerd.triggers.outbox_link import OutboxLink, Row

logger = logging.getLogger("runnerd.outbox")


async def examine_row(link: OutboxLink, row: Row, *, is_filtered: bool) -> Examined:
    """The event of a row. `is_filtered`: somebody looks into its payload. Raises psycopg.Error."""
    if row.payload is not None or not is_filtered:
        event = examine(row, None, is_filtered=is_filtered)
    else:
        whole = await link.fetch_payload(row.id)
        event = await asyncio.to_thread(examine, row, whole, is_filtered=True)  # some 16 MiB are 50 ms
    if event.is_large:
        logger.warning(
            "event %d is too large for a call, which carries a reference to it: %d bytes", row.id, row.size,
            extra=fields("outbox_event_large", event=row.id, bytes=row.size),
        )  # fmt: skip
    return event
