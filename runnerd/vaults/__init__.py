"""The vaults and keepers of the configuration in operation: adapters, grants, snapshots, and what the chain allows."""
