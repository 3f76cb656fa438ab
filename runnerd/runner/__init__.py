"""One runnerd in a process, from its parts to its end: `runner`, composed by `assembly`, embedded through `builder`."""
