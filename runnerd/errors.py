"""The root of the supervisor's errors. Each subclass's docstring says what happened and what the operator can do."""


class RunnerdError(Exception):
    """Something that runnerd knows how to explain. Its text is written for the operator."""
