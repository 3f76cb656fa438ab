"""The layers that hold a plugin: resource limits, namespaces, privileges, Landlock, seccomp. One file per layer.

`workers.birth` puts them on, in the order that docs/security.md explains; `probe` says which of them this host has.
"""
