"""The ledger in PostgreSQL: what was asked, decided, signed and seen. Store, then act; a restart goes on from it."""
