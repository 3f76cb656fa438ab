"""All kinds of triggers by their names, `triggers.Log(...)`: in `workers.sdk` itself, `Log` is what `ctx.log` is."""

from protocol.triggers import Block, Cron, Custom, Event, Log, Metric, Webhook

__all__ = ["Block", "Cron", "Custom", "Event", "Log", "Metric", "Webhook"]
