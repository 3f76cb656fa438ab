"""eth_keyfile's two functions, without what importing them does to the interpreter.

eth_keyfile imports py_ecc, which raises the recursion limit of the whole process to 100,000. With that, JSON nested
50,000 deep from a node overflows the C stack in msgspec: a segmentation fault of the process with the key, where the
usual limit gives a RecursionError. So the limit goes back to the interpreter's own.
"""

import sys

from eth_keyfile.exceptions import EthKeyfileValueError
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json

__all__ = ["EthKeyfileValueError", "create_keyfile_json", "decode_keyfile_json"]

RECURSION_LIMIT = 1_000  # CPython's default

sys.setrecursionlimit(RECURSION_LIMIT)
