"""Supervision: one state machine, one worker, one link, one bounded queue and one restart budget per plugin."""
