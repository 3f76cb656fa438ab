"""Fixtures that every test may ask for; what they do is in `tests.support`."""

# Each after those that it imports: pytest rewrites the asserts of a module only before its first import.
pytest_plugins = ["tests.support.leaks", "tests.support.short_dir", "tests.support.postgres", "tests.support.scene"]
