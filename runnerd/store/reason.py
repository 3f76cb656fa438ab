"""What a database error says, in one line, and without what libpq may quote from a connection string.

Used where errors are logged: by the store, and by the event producer.
"""

import re

import psycopg

MALFORMED = "the connection string cannot be read; libpq's words are not shown, since they may quote a password"
_QUOTES_THE_STRING = re.compile(r"connection is bad: invalid |failed to resolve host '[^']*@")
"""A password with an unescaped `@`, `/` or space is taken for a host, a port or an option, and quoted as such."""


def first_line(error: Exception) -> str:
    """The rest of libpq's message may repeat the connection string."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def connect_reason(error: Exception) -> str:
    """Why no connection came about."""
    is_of_the_server = isinstance(error, psycopg.Error) and error.sqlstate is not None
    is_quoting = isinstance(error, psycopg.ProgrammingError) or _QUOTES_THE_STRING.search(str(error))
    return MALFORMED if is_quoting and not is_of_the_server else first_line(error)
