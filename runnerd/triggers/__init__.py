"""Producers: each turns one kind of stimulus into JobCalls, which stand in the ledger before anyone acts on them."""
