"""How bytes reach a node: one file per kind of connection. `base` is the seam, `rpc.Rpc` its only user."""
