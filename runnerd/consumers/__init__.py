"""Who hears of JobResults beside the ledger: each through a cursor of its own, retried, and delaying nobody."""
