"""What a granted read or action must satisfy: its function, and limits that its arguments can meet. Pure.

Called by `check`, for vaults and keepers alike.
"""

from collections.abc import Iterator
from itertools import pairwise

from protocol.limits import INT_MAX
from protocol.values import Value
from runnerd.chain.abi import AbiFunction, parse_error, parse_function
from runnerd.chain.abi_types import ArrayOf, Elementary, Kind
from runnerd.chain.abi_values import to_abi
from runnerd.chain.address import address_bytes, parse_address
from runnerd.chain.errors import AbiError
from runnerd.config.grants import ActionGrant, ArgumentLimit, KeeperAction, ReadGrant
from runnerd.config.problem import Problem


def check_address(key: str, address: str) -> Iterator[Problem]:
    """Its checksum, and that it is one that can be called."""
    try:
        if not any(address_bytes(parse_address(address))):
            yield Problem(key, "is the zero address")
    except AbiError as error:
        yield Problem(key, str(error))


def check_read(key: str, read: ReadGrant) -> Iterator[Problem]:
    """A granted read."""
    yield from check_address(f"{key}.contract", read.contract)
    try:
        function = parse_function(read.function)
    except AbiError as error:
        yield Problem(f"{key}.function", str(error))
        return
    if not function.is_view:
        yield Problem(f"{key}.function", "must be a view: write `name(...) view returns (...)`")
    elif not function.outputs:
        yield Problem(f"{key}.function", "returns nothing: write `returns (type)`")
    yield from _errors(key, read.errors)


def check_action(key: str, action: ActionGrant | KeeperAction) -> Iterator[Problem]:
    """A granted action, of a vault or a keeper."""
    yield from check_address(f"{key}.contract", action.contract)
    yield from _errors(key, action.errors)
    try:
        function = parse_function(action.function)
    except AbiError as error:
        yield Problem(f"{key}.function", str(error))
        return
    if function.is_view:
        yield Problem(f"{key}.function", "is a view; an action changes something, a view is a read")
    unnamed = [parameter.type for parameter in function.inputs if not parameter.name]
    if unnamed:
        yield Problem(f"{key}.function", f"every argument needs a name, these have none: {', '.join(unnamed)}")
    if action.max_value_wei and not function.is_payable:
        yield Problem(f"{key}.max_value_wei", "the function is not payable: write `payable`, or leave this out")
    yield from _limits(key, action, function)


def _limits(key: str, action: ActionGrant | KeeperAction, function: AbiFunction) -> Iterator[Problem]:
    parameters = {parameter.name: parameter.shape for parameter in function.inputs}
    for name, limit in action.limits.items():
        where = f"{key}.limits.{name}"
        if name not in parameters:
            yield Problem(where, f"{function.name} has no such argument; it has: {', '.join(parameters) or 'none'}")
            continue
        item = shape = parameters[name]
        while isinstance(item, ArrayOf):
            item = item.item
        is_integer = isinstance(item, Elementary) and item.kind in (Kind.UINT, Kind.INT)
        if (limit.min is not None or limit.max is not None) and not is_integer:
            yield Problem(where, f"min and max are for integers, {name} is {shape}; use one_of")
            continue
        values = [("min", limit.min), ("max", limit.max), *(("one_of", value) for value in limit.one_of or ())]
        for key_of_limit, value in values:
            if value is not None and isinstance(item, Elementary):
                yield from _fits(f"{where}.{key_of_limit}", value, item, name)
        if limit.min is not None and limit.max is not None and limit.min > limit.max:
            yield Problem(where, f"min = {limit.min} is above max = {limit.max}")
        yield from _sums(where, limit, name, str(shape), is_integer)
        is_address = isinstance(item, Elementary) and item.kind is Kind.ADDRESS
        if (limit.in_list is not None or limit.not_in_list is not None) and not is_address:
            yield Problem(where, f"in_list and not_in_list are for addresses, {name} is {shape}")


def _sums(key: str, limit: ArgumentLimit, name: str, shape: str, is_integer: bool) -> Iterator[Problem]:
    sums = [(which, getattr(limit, which)) for which in ("max_per_call", "max_per_hour", "max_per_day")]
    given = [(which, most) for which, most in sums if most is not None]
    if given and not is_integer:
        yield Problem(key, f"{given[0][0]} is for integers, {name} is {shape}")
    for which, most in given:
        if most > INT_MAX:
            yield Problem(f"{key}.{which}", "is above 2^256 - 1")
    for (shorter, less), (longer, more) in pairwise(given):
        if less > more:
            yield Problem(f"{key}.{shorter}", f"= {less} is above {longer} = {more}")


def _fits(key: str, value: Value, shape: Elementary, name: str) -> Iterator[Problem]:
    """A limit that no argument can meet would deny everything, without a word at the start."""
    try:
        to_abi(value, shape, name)
    except AbiError as error:
        yield Problem(key, str(error))


def _errors(key: str, errors: tuple[str, ...]) -> Iterator[Problem]:
    for fragment in errors:
        try:
            parse_error(fragment)
        except AbiError as error:
            yield Problem(f"{key}.errors", str(error))
