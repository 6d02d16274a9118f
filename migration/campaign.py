"""One county's campaign, opened: its inventory, plan, way to the devices, and ledger. What every stage starts from."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

from addressing.model import AddressPlan
from addressing.plan import make_plan
from addressing.planfile import PlanFileError, plan_path, read_plan
from inventory.access import Access, AccessMissingError, read_access
from inventory.errors import CheckFailedError, ExtranetError, ScopeGuardError, UnknownNameError
from inventory.model import County, Unit
from inventory.reader import load_county, restrict_to_towns
from inventory.topology import Topology, build_topology
from inventory.wording import counted, first_towns
from migration.clock import Clock, SystemClock

if TYPE_CHECKING:
    from nornir.core import Nornir

    from migration.events import Event
    from migration.ledger import Ledger
    from migration.matrix import Matrix
    from migration.recent import Recent
    from migration.units import UnitRecord

P = ParamSpec("P")
Say = Callable[[str], None]
"""Tells a person what is happening, one line at a time."""


def silent(_: str) -> None:
    """Say nothing."""


def undisturbed(tell: Callable[P, None]) -> Callable[P, None]:
    """Return `tell` such that nobody's being there to hear it stops nothing: a lost terminal, a pipe whose reader left."""

    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream was closed
            tell(*args, **kwargs)

    return told


class OutOfReachError(ExtranetError):
    """Something that the county has, but not the lab that is up."""

    def __init__(self, kind: str, name: str, scope: str) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"{kind} {name!r}: in the county, but not in {scope}; start a lab that holds it")


def plain_name(name: str) -> str:
    """Return a name as it is compared: full-width forms made narrow, case and outer space ignored."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


@dataclass(frozen=True)
class Campaign:
    """Opened by `open_campaign`. `county` is the whole county, or the part a small lab holds (`scope` says which)."""

    folder: Path
    county: County
    whole: County
    topology: Topology
    clock: Clock
    reads: str = ""
    """Whose record is read, where that is named and need not be in reach any more: a target as events hold it."""

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
        """The county's ledger, made when missing; compared with the checkpoints at hand, where county.yaml says who signs."""
        from migration.ledger import Ledger, find_ledger, refuse_gone_ledger

        place = find_ledger(self.folder)
        if isinstance(place, Path):
            refuse_gone_ledger(place)
        return _assured(
            self.folder,
            Ledger.open(
                place, clock=self.clock, target=self.target, folder=self.folder, county=self.whole.division_code
            ),
        )

    @contextmanager
    def hold(self, command: str) -> Iterator[None]:
        """Hold the county for one command that changes the network: its folder on this machine, and the ledger's lease.

        Raises:
            CampaignBusyError: another command holds it, here or elsewhere; says which, and for how long.
        """
        from migration.ledger import campaign_lock, name_place

        with (
            campaign_lock(self.folder, command, self.clock),
            self.ledger.hold(command, place=name_place(self.folder)),
        ):
            yield

    @property
    def target(self) -> str:
        """What is spoken to, as written in every event: `lab NAME` or `field`."""
        return f"lab {self.access.name}" if self.access.target == "lab" else "field"

    @property
    def scope(self) -> str:
        """The part of the county in reach, for people."""
        if self.access.towns is None:
            return "the whole county"
        return f"a lab of {first_towns(self.access.towns)}"

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
        """Open the ledger without the right to write; its events are of the target it `reads`, in reach, or of the field."""
        from migration.ledger import Ledger, find_ledger

        return _assured(
            self.folder,
            Ledger.open(
                find_ledger(self.folder),
                clock=self.clock,
                target=self.reads or self.target_or_none() or "field",
                readonly=True,
                folder=self.folder,
                county=self.whole.division_code,
            ),
        )

    def ledger_for_signing(self) -> Ledger:
        """Open a ledger that is there for adding to it what changes no network; LedgerGoneError or CheckFailedError else."""
        from migration.ledger import Ledger, find_ledger

        open_ledger(self.folder, compared=False).close()
        target = self.target_or_none() or "field"
        return Ledger.open(find_ledger(self.folder), clock=self.clock, target=target, folder=self.folder)

    @cached_property
    def matrix(self) -> Matrix:
        """The expected matrix of everything in scope."""
        from migration.matrix import build_matrix

        return build_matrix(self.county, self.topology, self.plan, self.access)

    @cached_property
    def digests(self) -> dict[str, str]:
        """What everything is decided under now, by digest; what a stage without devices does without is left out."""
        from migration.evidence import inventory_digest, policy_digest, topology_digest

        out = {
            "inventory": inventory_digest(self.county),
            "policy": policy_digest(self.county.policy),
            "topology": topology_digest(self.topology),
        }
        with suppress(PlanFileError):
            out["plan"] = self.plan.digest
        with suppress(PlanFileError, AccessMissingError):
            out["matrix"] = self.matrix.digest
        return out

    @cached_property
    def recent(self) -> Recent:
        """What this command measured moments ago."""
        from migration.recent import Recent

        return Recent()

    @cached_property
    def nornir(self) -> Nornir:
        """Every router in scope; one session each, opened when first asked and kept for the whole command."""
        from nornir_tasks.hosts import build_nornir

        return build_nornir(self.county, self.access)

    @cached_property
    def _reader(self) -> Ledger:
        return self.ledger_for_reading()

    def events(self) -> tuple[Event, ...]:
        """Return the target's events so far. Makes no ledger where there is none."""
        ledger = self.ledger if "ledger" in self.__dict__ else self._reader
        return ledger.events()

    def records(self) -> dict[str, UnitRecord]:
        """Return where each unit stands, by the ledger."""
        from migration.units import fold

        return fold(self.events(), self.county)

    def find_name(self, kind: str, name: str, names: Mapping[str, str], whole: Mapping[str, str]) -> str:
        """Return what a person named. `names` gives what each name in scope stands for, `whole` in the whole county.

        Raises:
            ScopeGuardError: a classified network goes by that name.
            OutOfReachError: not in the lab that is up.
            UnknownNameError: not in the county; names near matches.
        """
        wanted = plain_name(name)
        if wanted.partition("@")[0] in {plain_name(n) for r in self.county.refused for n in (r.id, r.name)}:
            raise ScopeGuardError(f"{name}: belongs to a network marked classified; it is outside this tool, always")
        for known, meant in names.items():
            if plain_name(known) == wanted:
                return meant
        if wanted in map(plain_name, whole):
            raise OutOfReachError(kind, name, self.scope)
        raise UnknownNameError(kind, name, names)

    def find_unit(self, name: str) -> Unit:
        """Return the unit a person named (`network@site`, either part also by its Chinese name)."""
        typed = "@".join(part.strip() for part in plain_name(name).split("@"))
        return self.county.unit_by_id[self.find_name("unit", typed, _unit_names(self.county), _unit_names(self.whole))]

    def find_units(self, names: Iterable[str]) -> list[Unit]:
        """Return units in the order named, each once."""
        return list({u.id: u for u in map(self.find_unit, names)}.values())


def _unit_names(county: County) -> dict[str, str]:
    """Return every way to write a unit: each part by id or by Chinese name."""
    return {
        f"{network}@{site}": unit.id
        for unit in county.units
        for network in (unit.network, county.network_by_id[unit.network].name)
        for site in (unit.site, county.site_by_id[unit.site].name)
    }


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


def choose_record(folder: Path, of: str | None = None) -> str:
    """Return whose record a command that only reads is about: `of` (a lab's name will do), else of what is in reach.

    Where nothing is in reach it is the field's, or the only lab's on record: a lab that is down left its record here.

    Raises:
        UnknownNameError: nothing on record goes by that name.
        ExtranetError: several labs are on record and none is named.
    """
    if of is None:
        with suppress(AccessMissingError):
            access = read_access(folder)
            return f"lab {access.name}" if access.target == "lab" else "field"
    with open_ledger(folder) as ledger:
        known = list(dict.fromkeys(e.target for e in ledger.events(all_targets=True)))
    if of is not None:
        named = next((t for t in known if plain_name(of) in {plain_name(t), plain_name(t.removeprefix("lab "))}), None)
        if named is None:
            raise UnknownNameError("--of", of, known, where="the record", listed=True)
        return named
    if "field" in known or not known:
        return "field"
    if len(known) > 1:
        raise ExtranetError(
            f"{folder}: nothing is in reach, and {counted(len(known), 'lab')} on record ({', '.join(known)}); "
            "name one with --of NAME"
        )
    return known[0]


def open_record(folder: Path, of: str | None = None) -> Campaign:
    """Open a county's campaign to read what is on record, also when the lab it is of has gone; see `choose_record`."""
    return replace(open_campaign(folder), reads=choose_record(folder, of))


def open_ledger(folder: Path, *, compared: bool = True) -> Ledger:
    """Open a county's ledger for reading only; works without inventory, plan or network.

    `compared`: with the checkpoints at hand, where county.yaml says who signs them; whoever lists the breaks does so itself.
    """
    from migration.ledger import Ledger, find_ledger, refuse_gone_ledger

    place = find_ledger(folder)
    if isinstance(place, Path):
        refuse_gone_ledger(place)
        if not place.exists():
            raise CheckFailedError(
                f"{place}: no ledger yet - nothing has been pushed, measured or decided in this county"
            )
    ledger = Ledger.open(place, readonly=True, folder=folder)
    return _assured(folder, ledger) if compared else ledger


def _assured(folder: Path, ledger: Ledger) -> Ledger:
    """Hand on a ledger that is none other than the one whose checkpoints are at hand; LedgerBrokenError else."""
    from migration.ledger.pinned import refuse_unsigned

    try:
        refuse_unsigned(ledger, folder)
    except BaseException:
        ledger.close()
        raise
    return ledger
