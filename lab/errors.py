"""What can go wrong in the lab, as one line a person can act on.

ExtranetError
└── LabError             exit 2   bad use, or this machine cannot hold a lab
    ├── LabUpError                a lab is already up for this county
    ├── LabDownError              no lab is up for this county
    ├── NoSuchLabError            no lab goes by the name given
    ├── NotInLabError             in the county, but not in the part of it that this lab holds
    ├── LabBusyError              another command is making or removing this lab
    ├── MachineError              root, tools, kernel, space or addresses are missing or clash
    └── LabBootError              a node did not come up; the lab was taken down again
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inventory.errors import ExtranetError, UnknownNameError


class LabError(ExtranetError):
    """Base of the lab's errors."""


class LabUpError(LabError):
    """A lab is already up for this county."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"lab {name}: already up; use it, or run 'extranet lab up --again' to make it anew")


class LabDownError(LabError):
    """No lab is up for this county."""

    def __init__(self, where: Path | str) -> None:
        self.where = where
        super().__init__(f"{where}: no lab is up; start one with 'extranet lab up'")


class NoSuchLabError(LabError):
    """No lab on this machine goes by that name."""

    def __init__(self, name: str, running: Sequence[str]) -> None:
        self.name, self.running = name, tuple(running)
        there = f"running: {', '.join(self.running)}" if self.running else "none is running"
        super().__init__(f"lab {name!r}: no such lab on this machine, nothing was taken down; {there}")


class NotInLabError(LabError):
    """Something that the county has, but not the part of it that this lab holds."""

    def __init__(self, kind: str, name: str, holds: str) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"{kind} {name!r}: in the county, but not in this lab, which has {holds}; start a larger lab")


class NoPlanesError(LabError):
    """A node keeps no planes apart."""

    def __init__(self, node: str, plane: str) -> None:
        self.node, self.plane = node, plane
        super().__init__(f"{node}: keeps no planes apart, so none can be chosen, found {plane!r}; leave the plane out")


def miss_plane(node: str, plane: str, planes: Sequence[str]) -> ExtranetError:
    """Return the error for a plane that a node has not."""
    return UnknownNameError(f"plane of {node}", plane, planes, listed=True) if planes else NoPlanesError(node, plane)


class LabBusyError(LabError):
    """Another command is making or removing this lab."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"lab {name}: another 'extranet lab up' or 'down' is at work; wait for it to end")


class MachineError(LabError):
    """This machine cannot hold a lab as it is."""

    def __init__(self, what: str, todo: str) -> None:
        self.what, self.todo = what, todo
        super().__init__(f"this machine: {what}; {todo}")


class LabBootError(LabError):
    """A node did not come up."""

    def __init__(
        self, node: str, what: str, todo: str = "the lab was taken down again; see 'extranet lab status'"
    ) -> None:
        self.node, self.what = node, what
        super().__init__(f"{node}: {what}; {todo}")
