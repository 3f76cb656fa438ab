"""The configuration: one TOML file, decoded into frozen structs, checked as a whole before anything starts."""
