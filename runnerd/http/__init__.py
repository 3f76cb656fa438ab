"""What the http process says and does: its words with the supervisor, its app, its confinement.

Only `words`, `channel` and `records` are imported by the supervisor; the web stack lives in the other process alone.
"""
