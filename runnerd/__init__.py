"""The trusted side: supervisor, executor, store and everything that touches the key."""

from importlib.metadata import version

__version__ = version("runnerd")
