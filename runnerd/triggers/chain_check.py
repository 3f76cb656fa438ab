"""What can be wrong with a chain's trigger before a node is asked: in the configuration, and in what a worker says."""

from collections.abc import Collection

from protocol.triggers import Block, Log, Trigger
from runnerd.chain.abi import parse_event
from runnerd.chain.abi_event import build_filter
from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError


def chain_problem(trigger: Trigger, chains: Collection[str] | None) -> tuple[str, str] | None:
    """The key of the trigger that is wrong and what is wrong with it; None if nothing is. `chains`: those configured,
    None if that is not known.
    """
    if not isinstance(trigger, Block | Log):
        return None
    if trigger.chain is not None and chains is not None and trigger.chain not in chains:
        return "chain", f"there is no chain {trigger.chain!r}; configured: {', '.join(chains) or 'none'}"
    if isinstance(trigger, Block):
        return None
    for key, check in (
        ("event", lambda: parse_event(trigger.event)),
        ("where", lambda: build_filter(trigger.event, trigger.where)),
        ("addresses", lambda: [parse_address(address) for address in trigger.addresses]),
    ):
        try:
            check()
        except AbiError as error:
            return key, str(error)
    return None
