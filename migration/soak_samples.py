"""Samples of the old lines: what routers and resolvers said of their use at one time, kept like evidence.

One file a sample, `evidence/<digest>.json.gz`, and one with everything the routers said, `evidence/<digest>.raw.gz`, secrets
hidden. Both hold configurations, so only their owner may read them. The ledger's soak event names both digests. A sample
names, for each unit, the sample before it: so that one taken away from between two others is seen. A file that is missing,
changed or says other than its event is a lost sample: it counts as not clean, because nobody knows what it held.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from inventory.model import County, Model, Protocol
from migration.events import Event, Kind, canonical_json, digest_of
from migration.evidence import EVIDENCE_DIR, FORMAT, load_content, write_content
from nornir_tasks.old_line import NameSeen, Usage
from nornir_tasks.stations.model import Check

_CHECKED_MOST = 2000
_OWNER_ONLY = 0o600


class SoakSample(Model):
    """What was seen of some units' old lines at one time. Times are Unix times on the controller's clock.

    With `problem` set it is lost. `recorded` (when the ledger took it) and `seq` come from the event.
    """

    digest: str
    units: tuple[str, ...]
    taken_from: float
    taken_to: float
    usages: tuple[Usage, ...] = ()
    names: tuple[NameSeen, ...] = ()
    before: dict[str, str] = Field(default={})
    raw: str = ""
    target: str = ""
    """The network it was taken on, as events name it."""
    policy: str = ""
    """Digest of the policy it was taken under."""
    problem: str = ""
    recorded: float = 0.0
    seq: int = 0

    @property
    def file(self) -> str:
        """Where it is kept, relative to the county's folder."""
        return f"{EVIDENCE_DIR}/{self.digest}.json.gz"

    @property
    def raw_file(self) -> str:
        """Where all that the routers said is kept."""
        return f"{EVIDENCE_DIR}/{self.raw}.raw.gz"

    def usage(self, device: str) -> Usage | None:
        """Return what a device said; None when it was not asked."""
        return self.usage_by_device.get(device)

    @cached_property
    def usage_by_device(self) -> dict[str, Usage]:
        """What was said, by device."""
        return {u.device: u for u in self.usages}

    @cached_property
    def silent(self) -> frozenset[str]:
        """Devices that told all they were asked and named nobody: of them only the ports are left to look at."""
        return frozenset(
            u.device for u in self.usages if not (u.unknown or u.flows or u.lines or u.routes or u.sockets)
        )

    def body(self) -> dict[str, Any]:
        """Return the body of its ledger event."""
        return {
            "digest": self.digest,
            "file": self.file,
            "raw": self.raw,
            "target": self.target,
            "units": list(self.units),
            "devices": [u.device for u in self.usages],
            "taken_from": self.taken_from,
            "taken_to": self.taken_to,
            **({"policy": self.policy} if self.policy else {}),
        }


def names_to_ask(county: County, checks: Iterable[Check]) -> dict[str, dict[tuple[str, str], Check]]:
    """Return the checks by which a sample asks for names: by plane, for each name and family of its own services one.

    Each is asked from a station that needs it, at the county where one does.
    """
    at_county = {s.id for s in county.stations_at(county.county_site.id)}
    out: dict[str, dict[tuple[str, str], Check]] = {}
    for check in checks:
        service = county.service_by_id.get(check.service)
        if check.expect != "reach" or not check.resolver or service is None:
            continue
        if service.plane != check.plane or service.protocol is Protocol.DNS:
            continue
        asked = out.setdefault(check.plane, {})
        name = (check.dns_name, check.family.value)
        first = asked.get(name)
        if first is None or _nearness(check, at_county) < _nearness(first, at_county):
            asked[name] = check
    return out


def _nearness(check: Check, at_county: Container[str]) -> tuple[bool, str]:
    return check.station not in at_county, check.station


def make_sample(
    *,
    units: Iterable[str],
    usages: Iterable[Usage],
    names: Iterable[NameSeen],
    taken_from: float,
    taken_to: float,
    before: Mapping[str, str],
    raw: str = "",
    target: str = "",
    policy: str = "",
) -> SoakSample:
    """Bind a sample together."""
    draft = SoakSample(
        digest="",
        units=tuple(sorted(set(units))),
        usages=tuple(sorted(usages, key=lambda u: u.device)),
        names=tuple(sorted(names, key=lambda n: (n.name, n.family, n.station))),
        taken_from=taken_from,
        taken_to=taken_to,
        before=dict(before),
        raw=raw,
        target=target,
        policy=policy,
    )
    return draft.model_copy(update={"digest": digest_of(_content(draft))})


def write_sample(county_dir: Path, sample: SoakSample, raw: Mapping[str, str]) -> None:
    """Keep a sample and all that the routers said on the disk, for their owner alone; raises EvidenceWriteError."""
    write_content(county_dir / sample.raw_file, raw_content(raw), mode=_OWNER_ONLY)
    write_content(county_dir / sample.file, _content(sample), mode=_OWNER_ONLY)


def raw_content(raw: Mapping[str, str]) -> dict[str, Any]:
    """Return what the raw file of a sample holds; its digest is over this."""
    return {"format": FORMAT, "kind": "soak-raw", "devices": dict(raw)}


def last_samples(events: Iterable[Event]) -> dict[str, str]:
    """Return the digest of each unit's newest sample."""
    out: dict[str, str] = {}
    for event in events:
        if event.kind is Kind.SOAK:
            out |= dict.fromkeys(map(str, event.body.get("units", ())), str(event.body.get("digest", "")))
    return out


def collect_samples(county_dir: Path, events: Iterable[Event], *, since: float = 0.0) -> tuple[SoakSample, ...]:
    """Return the samples that the ledger took at `since` or later, in its order."""
    return tuple(
        _read_sample(county_dir, event)
        for event in events
        if event.kind is Kind.SOAK and event.moment.timestamp() >= since
    )


def _read_sample(county_dir: Path, event: Event) -> SoakSample:
    moment = event.moment.timestamp()
    body = event.body
    digest = str(body.get("digest", ""))
    lost = SoakSample(
        digest=digest,
        units=tuple(map(str, body.get("units", ()))),
        taken_from=moment,
        taken_to=moment,
        recorded=moment,
        seq=event.seq,
    )
    if not re.fullmatch(r"[0-9a-f]{64}", digest):  # it becomes a file name
        return lost.model_copy(update={"problem": f"{digest!r} is not a digest"})
    found, why = _read_whole(county_dir / lost.file, digest)
    if found is None:
        return lost.model_copy(update={"problem": why})
    if canonical_json(found.body()) != canonical_json({k: v for k, v in body.items() if k in found.body()}):
        return lost.model_copy(update={"problem": f"{lost.file} says other than its event in the ledger"})
    if found.target != event.target:
        return lost.model_copy(update={"problem": f"{lost.file} was taken on {found.target}, not on {event.target}"})
    return found.model_copy(update={"recorded": moment, "seq": event.seq})


_checked: dict[tuple[str, int, int, int], SoakSample] = {}


def _read_whole(path: Path, digest: str) -> tuple[SoakSample | None, str]:
    """Return a file's sample, or why there is none. A file that has not been touched is read once."""
    try:
        stat = path.stat()
    except OSError:
        return None, f"{EVIDENCE_DIR}/{path.name} is missing"
    mark = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if mark not in _checked:
        content, why = load_content(path, digest)
        if why:
            return None, why
        try:
            found = SoakSample.model_validate({k: v for k, v in content.items() if k != "kind"} | {"digest": digest})
        except ValidationError as error:
            return None, f"{EVIDENCE_DIR}/{path.name} cannot be read: {error.errors()[0]['msg']}"
        while len(_checked) >= _CHECKED_MOST:
            del _checked[next(iter(_checked))]
        _checked[mark] = found
    return _checked[mark], ""


def _content(sample: SoakSample) -> dict[str, Any]:
    kept = sample.model_dump(mode="json", exclude={"digest", "problem", "recorded", "seq"})
    return {"format": FORMAT, "kind": "soak", **kept}
