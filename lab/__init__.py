"""A county on one machine: FRR routers, stations and services in namespaces, built from an inventory; faults on demand.

The lab is ephemeral hardware: `boot` makes it and takes it away, `faults` break it, and nothing else in the suite knows
that a device is not a real one. Every node is a process tree with its own network, mount, host name, process and IPC
namespaces; its first process carries the lab's marker, so that whatever happens to the state file, `sweep` finds it.
"""
