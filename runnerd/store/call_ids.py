"""Ids of JobCalls that are not stored yet: taken from the ledger's sequence in advance, given out in order.

So a call has its id before its commit, and its worker can be asked meanwhile (`router`). What is reserved and not used
is a gap, as after any rollback.
"""

import logging
from collections import deque
from collections.abc import Iterator
from itertools import repeat
from typing import Final

from runnerd.log import fields
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.store")

RESERVE: Final = 1_024
LOW: Final = 512
_RESERVED: Final = Statement(
    "select nextval('job_calls_id_seq') as id from generate_series(1, %(count)s)", {"count": RESERVE}
)


class CallIds:
    """A reserve that is filled again in the background. Without one the ledger gives the id, as it inserts."""

    def __init__(self, store: Ledger) -> None:
        self._store = store
        self._ids: deque[int] = deque()
        self._tasks = Tasks()
        self._is_filling = True
        """Nor is it filled before it was once."""
        self._ran_dry = 0

    async def fill(self) -> None:
        """Reserve some more. What the ledger gave to others must not be older than what is given out next: so they come
        by the writer's queue, behind every call that waits there for an id of the ledger's; and they are thrown away if
        such a call came meanwhile.
        """
        self._is_filling = True
        ran_dry = self._ran_dry
        try:
            (rows,) = await self._store.commit(_RESERVED)
        except StoreError as error:
            logger.warning("no ids are reserved: %s", error, extra=fields("call_ids_unreserved"))
        else:
            if self._ran_dry == ran_dry:
                self._ids += [row["id"] for row in rows]
        finally:
            self._is_filling = False

    def take(self, wanted: int) -> "Iterator[int | None]":
        """So many, ascending; or so many times None, for the ledger to give them."""
        if len(self._ids) - wanted < LOW and not self._is_filling:
            self._is_filling = True
            self._tasks.spawn(self.fill(), "store:call-ids")
        if len(self._ids) < wanted:
            self._ids.clear()  # the ledger's are newer
            self._ran_dry += 1
            return repeat(None, wanted)
        return iter([self._ids.popleft() for _ in range(wanted)])
