"""One county's campaign, opened: its inventory, plan, way to the devices, and ledger. What every stage starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from addressing.model import AddressPlan
from addressing.plan import make_plan
from addressing.planfile import PlanFileError, plan_path, read_plan
from inventory.access import Access, AccessMissingError, read_access
from inventory.errors import CheckFailedError, ScopeGuardError, UnknownNameError
from inventory.model import County, Unit
from inventory.reader import load_county, restrict_to_towns
from inventory.topology import Topology, build_topology
from migration.clock import Clock, SystemClock

if TYPE_CHECKING:
    from migration.ledger import Ledger
    from migration.matrix import Matrix

Say = Callable[[str], None]
"""Tells a person what is happening, one line at a time."""


def silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Campaign:
    """Opened by `open_campaign`. `county` is the whole county, or the part a small lab holds (`scope` says which)."""

    folder: Path
    county: County
    whole: County
    topology: Topology
    clock: Clock

    @cached_property
    def access(self) -> Access:
        """How to reach devices; AccessMissingError when there is no way."""
        return read_access(self.folder)

    @cached_property
    def plan(self) -> AddressPlan:
        """The plan file; PlanFileError when it is missing or older than the inventory."""
        path = plan_path(self.folder)
        plan = read_plan(path)
        if make_plan(self.whole, build_topology(self.whole), plan) != plan:
            raise PlanFileError(
                path, "the inventory has changed since this plan was made", "run 'extranet plan addresses'"
            )
        return plan

    @cached_property
    def ledger(self) -> Ledger:
        """The county's ledger, made when missing."""
        from migration.ledger import Ledger

        return Ledger.open(self.folder / "ledger.sqlite", clock=self.clock, target=self.target)

    @property
    def target(self) -> str:
        """What is spoken to, as written in every event: `lab NAME` or `field`."""
        return f"lab {self.access.name}" if self.access.target == "lab" else "field"

    @property
    def scope(self) -> str:
        """The part of the county in reach, for people."""
        if self.access.towns is None:
            return "the whole county"
        return f"a lab of the first {self.access.towns} towns"

    def target_or_none(self) -> str | None:
        """Return the target, or None when there is no way to any device."""
        try:
            return self.target
        except AccessMissingError:
            return None

    def scope_or_none(self) -> str | None:
        """Return the scope, or None when there is no way to any device."""
        return self.scope if self.target_or_none() else None

    def ledger_for_reading(self) -> Ledger:
        """Open the ledger without the right to write; its events are those of the target in reach (else of the field)."""
        from migration.ledger import Ledger

        return Ledger.open(
            self.folder / "ledger.sqlite", clock=self.clock, target=self.target_or_none() or "field", readonly=True
        )

    @cached_property
    def matrix(self) -> Matrix:
        """The expected matrix of everything in scope."""
        from migration.matrix import build_matrix

        return build_matrix(self.county, self.topology, self.plan, self.access)

    def find_unit(self, name: str) -> Unit:
        """Return the unit a person named (`network@site`, either part also by its Chinese name)."""
        network, _, site = name.strip().replace("＠", "@").partition("@")
        if network in {r.id for r in self.county.refused} | {r.name for r in self.county.refused}:
            raise ScopeGuardError(f"{name}: belongs to a network marked classified; it is outside this tool, always")
        network = next((n.id for n in self.county.networks if n.name == network), network)
        site = next((s.id for s in self.county.sites if s.name == site), site)
        found = self.county.unit_by_id.get(f"{network}@{site}")
        if found is None:
            raise UnknownNameError("unit", name, self.county.unit_by_id)
        return found

    def find_units(self, names: Iterable[str]) -> list[Unit]:
        """Return units in the order named, each once."""
        return list({u.id: u for u in map(self.find_unit, names)}.values())


def open_campaign(folder: Path, clock: Clock | None = None) -> Campaign:
    """Open a county's campaign; in a small lab, only the part the lab holds."""
    whole = load_county(folder)
    county = whole
    try:
        access = read_access(folder)
    except AccessMissingError:
        pass  # stages that need no device work without
    else:
        if access.towns is not None:
            county = restrict_to_towns(whole, access.towns)
    return Campaign(
        folder=folder, county=county, whole=whole, topology=build_topology(county), clock=clock or SystemClock()
    )


def open_ledger(folder: Path) -> Ledger:
    """Open a county's ledger for reading only; works without inventory, plan or network."""
    from migration.ledger import LEDGER_FILE, Ledger

    path = folder / LEDGER_FILE
    if not path.exists():
        raise CheckFailedError(f"{path}: no ledger yet - nothing has been pushed, measured or decided in this county")
    return Ledger.open(path, readonly=True)
