"""The archive: whole running configurations of legacy routers, kept by digest before anything takes their lines away.

`archive/<sha256>.cfg` beside the county, readable by its owner alone: a configuration may hold passwords. The ledger
names the digests in a note, never the text, together with all that is known of the line (`dossier`), so that both
outlive the inventory's rows. A file that is missing or changed is no archive, and the gate then refuses to shut or remove.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationError

from inventory.errors import ExtranetError
from inventory.files import WriteError, write_whole
from inventory.model import County, Model, Unit
from inventory.wording import counted
from migration.dossier import Dossier, make_dossier
from migration.events import Event, Kind
from migration.units import UnitState, legacy_devices_under

if TYPE_CHECKING:
    from migration.campaign import Campaign, Say

ARCHIVE_DIR = "archive"
NOTE = "archive"
"""What the ledger's note calls itself."""


class ArchiveWriteError(ExtranetError):
    """A configuration could not be kept; nothing of it is there."""

    exit_code: ClassVar[int] = 4

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"{path}: configuration not archived: {why}; free space or rights, then run the same command again"
        )


class Archive(Model):
    """One unit's legacy routers as they were at `at`, when the unit stood in `state`.

    `configs` maps each router to the digest of its configuration; `lost` those whose file is not what it was, to why.
    With `problem` set the ledger's note cannot be read, and nothing counts as archived by it.
    """

    unit: str
    seq: int
    at: datetime
    state: UnitState = UnitState.SURVEYED
    configs: dict[str, str] = Field(default={})
    dossier: Dossier | None = None
    lost: dict[str, str] = Field(default={})
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Tell whether every configuration it names is there, unchanged."""
        return bool(self.configs) and not self.lost and not self.problem


Archives = Mapping[str, tuple[Archive, ...]]
"""A unit's archives, the oldest first."""


def archive_path(county_dir: Path, digest: str) -> Path:
    """Return where a configuration is kept."""
    return county_dir / ARCHIVE_DIR / f"{digest}.cfg"


def write_config(county_dir: Path, text: str) -> str:
    """Keep a configuration, whole or not at all, and return its digest; does nothing when it is there already.

    Raises:
        ArchiveWriteError: full disk or no rights.
    """
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    path = archive_path(county_dir, digest)
    if not _why_lost(path, digest):
        return digest
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, data, mode=0o600)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except WriteError as error:
        cause = error.__cause__
        raise ArchiveWriteError(path, getattr(cause, "strerror", None) or str(error)) from error
    except OSError as error:
        raise ArchiveWriteError(path, error.strerror or str(error)) from error
    return digest


def read_config(county_dir: Path, digest: str) -> str:
    """Return an archived configuration; ExtranetError when it is not exactly what was archived."""
    path = archive_path(county_dir, digest)
    why = _why_lost(path, digest)
    if why:
        raise ExtranetError(f"{why}; restore it from a backup of the county's folder")
    return path.read_text("utf-8")


def _why_lost(path: Path, digest: str) -> str:
    name = f"{ARCHIVE_DIR}/{path.name}"
    if not re.fullmatch(r"[0-9a-f]{64}", digest):  # it becomes a file name
        return f"{digest!r} is not a digest"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return (
            f"{name} is missing"
            if isinstance(error, FileNotFoundError)
            else f"{name} cannot be read ({error.strerror})"
        )
    return "" if found == digest else f"{name} was changed - expected digest {digest[:12]}, found {found[:12]}"


def collect_archives(county_dir: Path, events: Iterable[Event]) -> dict[str, tuple[Archive, ...]]:
    """Return every unit's archives by the ledger's notes, each file looked at once."""
    out: dict[str, tuple[Archive, ...]] = {}
    seen: dict[str, str] = {}
    for event in events:
        if event.kind is not Kind.NOTE or event.body.get("note") != NOTE or event.unit is None:
            continue
        found = _read_note(event)
        for digest in found.configs.values():
            if digest not in seen:
                seen[digest] = _why_lost(archive_path(county_dir, digest), digest)
        lost = {device: seen[digest] for device, digest in found.configs.items() if seen[digest]}
        out[event.unit] = (*out.get(event.unit, ()), found.altered(lost=lost))
    return out


def _read_note(event: Event) -> Archive:
    fields: dict[str, Any] = {"unit": event.unit, "seq": event.seq, "at": event.moment}
    try:
        return Archive(**fields, **{n: event.body[n] for n in ("state", "configs", "dossier")})
    except (KeyError, ValidationError) as error:
        return Archive(**fields, problem=f"event {event.seq} cannot be read as an archive ({type(error).__name__})")


def judge_archives(county: County, unit: Unit, archives: Archives) -> list[str]:
    """Return why a unit's legacy routers do not count as archived: by router, its newest archive decides."""
    out = []
    for device in legacy_devices_under(county, unit):
        mine = [a for a in archives.get(unit.id, ()) if device in a.configs and not a.problem]
        todo = f"'extranet archive take {unit.id} --yes' reads and keeps it"
        if not mine:
            out.append(f"the configuration of {device} is not archived, so its line could not be rebuilt: {todo}")
        elif device in mine[-1].lost:
            out.append(f"the archived configuration of {device} is lost: {mine[-1].lost[device]}; {todo}")
    return out


def take_archive(campaign: Campaign, units: Sequence[Unit], *, say: Say) -> dict[str, list[str]]:
    """Read and keep the configurations of units' legacy routers now; return, by unit, why not (nothing: it was kept).

    Where routers, inventory and the unit's state are as its last note says, that note stands for now as well.

    Raises:
        ArchiveWriteError: full disk or no rights; no note names what was not kept.
    """
    from nornir_tasks.changes import read_configs

    devices = {u.id: legacy_devices_under(campaign.county, u) for u in units}
    wanted = sorted({d for mine in devices.values() for d in mine})
    found = read_configs(campaign.nornir, wanted) if wanted else {}
    kept = {d: write_config(campaign.folder, o.value.text) for d, o in found.items() if o.ok and o.value is not None}
    records, missing = campaign.records(), {}
    last = {e.unit: e.body for e in campaign.events() if e.kind is Kind.NOTE and e.body.get("note") == NOTE}
    act = f"{campaign.clock.now():%Y%m%dT%H%M%S}-archive-{secrets.token_hex(3)}"
    for unit in units:
        bad = [found[d].error if d in found else f"{d}: was not read" for d in devices[unit.id] if d not in kept]
        if bad or not devices[unit.id]:
            missing[unit.id] = [f"not archived: {why}" for why in bad or [f"{unit.id} has no legacy router"]]
            continue
        body = {
            "note": NOTE,
            "state": records[unit.id].state.value,
            "configs": {d: kept[d] for d in devices[unit.id]},
            "dossier": make_dossier(campaign.whole, unit, campaign.plan).model_dump(mode="json"),
        }
        if last.get(unit.id) != body:
            campaign.ledger.append(Kind.NOTE, f"{act}/{unit.id}", body, unit=unit.id)
    done = len(units) - len(missing)
    if done:
        say(
            f"· archived: {counted(len(kept), 'legacy router')} of {counted(done, 'unit')}, in {ARCHIVE_DIR}/ by digest"
        )
    return missing
