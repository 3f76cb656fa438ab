"""What `runnerctl new` writes: `string.Template` files, read as package data."""
