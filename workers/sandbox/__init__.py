"""The layers that hold a plugin: resource limits, namespaces, privileges, Landlock, seccomp. One file per layer.

`workers.birth` puts them on, in the order of DESIGN §5; `probe` says which of them this host has.
"""
