"""A plugin of the fault campaign: acts by itself at every tick, in the way that `params.mode` says.

Each call asks for a mint whose strike is its own id plus an offset, so that the checker can tell from the chain alone
which decision an effect belongs to, and that the arguments arrived as they were decided.
"""

from workers.sdk import Act, Action, BalanceChange, Context, Cron, Noop, Plugin

STAKE_WEI = 10**12
FIRST_STRIKE = 10_000
BELOW_MINIMUM = 999


class Actor(Plugin):
    """`acting`: one action; `pair`: two in one decision; `denied`: what no policy grants; `idle`: nothing; `moody`:
    each in turn, and actions that would revert; `careful`: says what its action costs, and sometimes less."""

    name = "actor"
    triggers = [Cron(every_seconds=0.2)]
    reads = ["spot", "positions"]

    async def decide(self, ctx: Context) -> list[Action] | Act | Noop:
        """By mode, and by nothing that differs when the same call is decided again."""
        call_id = ctx.call.id
        mode = str(ctx.params["mode"])
        if mode == "moody":
            mode = ("acting", "denied", "pair", "reverting", "idle", "unknown")[call_id % 6]
        strike = FIRST_STRIKE + call_id
        ctx.state.put("last", call_id)
        match mode:
            case "acting":
                return [_binary(strike)]
            case "pair":
                return [_binary(strike), Action("mint_range", {"lower": 100_000, "upper": 300_000}, STAKE_WEI)]
            case "careful":  # every fourth expects to pay half of what it pays: a breach, which no node may overlook
                expected = -STAKE_WEI // 2 if call_id % 4 == 0 else -STAKE_WEI
                return Act([_binary(strike)], expect=[BalanceChange(min=expected, max=expected)])
            case "denied":
                return [_binary(strike), _binary(BELOW_MINIMUM)]
            case "unknown":
                return [Action("withdraw_all", {"strike": strike})]
            case "reverting":  # the market refuses a stake of nothing: only the simulation can tell
                return [Action("mint_binary", {"strike": strike, "above": True}, 0)]
            case _:
                return Noop("nothing to do")


def _binary(strike: int) -> Action:
    return Action("mint_binary", {"strike": strike, "above": bool(strike % 2)}, STAKE_WEI)
