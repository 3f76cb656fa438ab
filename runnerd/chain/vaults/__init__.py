"""Kinds of vault, one file each: how many calls become one transaction, and what the chain must say before we may act.

`runnerd.chain.vault` is the seam, `runnerd.vaults.vaults` makes the adapter that the configuration names.
"""
