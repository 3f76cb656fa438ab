"""Words that the supervisor and the workers share: messages, actions, triggers, codec, limits, errors.

Imports the standard library and msgspec only. `workers` and `runnerd` import this package and never each other.
"""
