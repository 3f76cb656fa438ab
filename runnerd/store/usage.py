"""Statements about what approved Decisions count against: rolling limits and budgets."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from runnerd.executor.windows import Use
from runnerd.store.statement import Statement


def record(call_id: int, uses: Sequence[Use], at: datetime) -> Statement:
    """Count `uses` of a Decision. In one commit with its intent."""
    return Statement(
        """
        insert into usage (call_id, measure, action, argument, amount, at)
        select %(call_id)s, measure, action, argument, amount, %(at)s
        from unnest(%(measures)s::text[], %(actions)s::text[], %(arguments)s::text[], %(amounts)s::numeric[])
             as u (measure, action, argument, amount)
        on conflict (call_id, measure, action, argument) do nothing
        """,
        {
            "call_id": call_id,
            "measures": [use.measure.value for use in uses],
            "actions": [use.action for use in uses],
            "arguments": [use.argument for use in uses],
            "amounts": [Decimal(use.amount) for use in uses],
            "at": at,
        },
        is_independent=True,
    )


def reserve_gas(call_id: int, gas_wei: int, at: datetime) -> Statement:
    """What the dearest transaction of an intent may cost. The first moment is kept."""
    return Statement(
        """
        insert into usage (call_id, measure, amount, at) values (%(call_id)s, 'gas', %(amount)s, %(at)s)
        on conflict (call_id, measure, action, argument)
        do update set amount = greatest(usage.amount, excluded.amount)
        """,
        {"call_id": call_id, "amount": Decimal(gas_wei), "at": at},
    )


def settle_gas(call_id: int, gas_wei: int) -> Statement:
    """What the transactions of an intent have cost, in place of what was reserved."""
    return Statement(
        "update usage set amount = %(amount)s where call_id = %(call_id)s and measure = 'gas'",
        {"call_id": call_id, "amount": Decimal(gas_wei)},
        is_independent=True,
    )


def since(start: datetime) -> Statement:
    """What counts since `start`, oldest first, with whose it is and whether its intent may still send value.

    Given back is what ended without effect. A transaction that reverted was one all the same, and its gas was paid.
    """
    return Statement(
        """
        select u.*, i.plugin, i.vault, i.chain_id, i.wallet,
               i.state not in ('final', 'reverted', 'denied', 'expired', 'cancelled') as is_open
        from usage u join intents i on i.call_id = u.call_id
        where u.at > %(start)s
          and (i.state not in ('reverted', 'denied', 'expired', 'cancelled') or u.measure = 'gas'
               or (u.measure = 'transactions' and i.nonce is not null))
        order by u.at, u.call_id
        """,
        {"start": start},
    )


def newest() -> Statement:
    """The newest moment that anything was counted at."""
    return Statement("select max(at) as at from usage")


def prune(before: datetime) -> Statement:
    """Forget what can never count again. Intents, decisions and attempts stay."""
    return Statement("delete from usage where at < %(before)s", {"before": before})
