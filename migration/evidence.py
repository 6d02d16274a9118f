"""Evidence: the results of one run, bound to what they were measured under, kept by digest beside the county.

One file a run, `evidence/<digest>.json.gz`: the digest is the sha256 over the canonical JSON inside (before
compression), which holds the results and everything they are bound to. The ledger's evidence event names the digest,
so the chain covers the files too. A file that is missing, changed or says other than its event is no evidence, with the
reason; and since nobody knows what it held, it also outweighs everything older about its units (see `gates`).

Beside it stands what stations and servers answered, word for word, in `evidence/<output>.raw.gz`: every session's words once,
by their sha256, which the results that were read from them name (`raw.output`). Evidence whose words are gone is lost too.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from inventory.errors import ExtranetError
from inventory.model import County, Model, Policy
from inventory.topology import Topology
from migration.events import Event, Kind, canonical_json, digest_of
from nornir_tasks.stations.model import Outcome, Result

EVIDENCE_DIR = "evidence"
FORMAT = 1


class EvidenceWriteError(ExtranetError):
    """An evidence file could not be written; nothing of it is there."""

    exit_code = 4

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path}: evidence not written: {why}; free space or rights, then measure again")


class OutputLostError(ExtranetError):
    """What a result was read from is not there any more as it was."""

    exit_code = 1

    def __init__(self, file: str, why: str) -> None:
        self.file, self.why = file, why
        super().__init__(f"{file}: {why}; the result stands for nothing: measure again")


class Bound(Model):
    """What results were measured under: digests of inventory, plan, topology and policy, and of what each device ran.

    The inventory's digest covers the policy too; with its own a reason can say which of the two was edited.
    """

    inventory: str
    plan: str
    configs: dict[str, str]
    topology: str = ""
    policy: str = ""


class Evidence(Model):
    """One run's results. `taken_from` and `taken_to` are Unix times on the controller's clock, around the whole run.

    `units` are those it is about (empty: all), `withheld` those whose old path was withheld meanwhile. With `problem`
    set it is lost: there are no results, and the rest is what its ledger event says.
    """

    digest: str
    run: str
    results: tuple[Result, ...]
    bound: Bound
    taken_from: float
    taken_to: float
    units: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    target: str = ""
    """The network it was measured on, as events name it: what a lab showed proves nothing of the field."""
    output: str = ""
    """Digest of the file with what was said word for word; empty where nobody said anything."""
    said: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """These words by their digests, until they are written; `read_output` reads them again."""
    problem: str = ""
    seq: int = 0
    """Number of its ledger event, 0 while it has none; not part of what the digest covers. Gates go by it: give one to
    what they are to judge before it is recorded."""

    @property
    def passed(self) -> int:
        """How many results passed."""
        return sum(r.outcome is Outcome.PASSED for r in self.results)

    @property
    def file(self) -> str:
        """Where it is kept, relative to the county's folder."""
        return f"{EVIDENCE_DIR}/{self.digest}.json.gz"

    @property
    def output_file(self) -> str:
        """Where all that was said is kept, relative to the county's folder."""
        return f"{EVIDENCE_DIR}/{self.output}.raw.gz"

    def body(self) -> dict[str, Any]:
        """Return the body of its ledger event."""
        return {
            "digest": self.digest,
            "run": self.run,
            "units": list(self.units),
            "results": len(self.results),
            "passed": self.passed,
            "file": self.file,
            "taken_from": self.taken_from,
            "taken_to": self.taken_to,
            "bound": self.bound.model_dump(mode="json"),
            "withheld": list(self.withheld),
            "target": self.target,
            **({"output": self.output} if self.output else {}),
        }


def inventory_digest(county: County) -> str:
    """Return the sha256 over the county's canonical JSON: any edit of the inventory makes older evidence void."""
    return digest_of(county.model_dump(mode="json"))


def topology_digest(topology: Topology) -> str:
    """Return the sha256 over the wiring: any line, port or LAN that changes makes older evidence void."""
    return digest_of(topology.model_dump(mode="json"))


def policy_digest(policy: Policy) -> str:
    """Return the sha256 over the policy's canonical JSON."""
    return digest_of(policy.model_dump(mode="json"))


def config_digest(config: str) -> str:
    """Return the sha256 of a device's configuration as `Driver.get_config` returns it."""
    return hashlib.sha256(config.encode()).hexdigest()


def result_digest(result: Result) -> str:
    """Return the sha256 over one result's canonical JSON: what a report names, and anybody finds again in the evidence."""
    return digest_of(result.model_dump(mode="json"))


def make_evidence(
    results: Iterable[Result],
    *,
    run: str,
    bound: Bound,
    taken_from: float,
    taken_to: float,
    units: Iterable[str] = (),
    withheld: Iterable[str] = (),
    target: str = "",
) -> Evidence:
    """Bind results together; equal input in any order gives an equal digest."""
    results = list(results)
    said = {digest: words for r in results for digest, words in r.said.items()}
    bare = (r.model_copy(update={"said": {}}) if r.said else r for r in results)
    kept = tuple(sorted(bare, key=lambda r: (r.check.id, r.at, canonical_json(r.model_dump(mode="json")))))
    draft = Evidence(
        digest="",
        run=run,
        results=kept,
        bound=bound,
        taken_from=taken_from,
        taken_to=taken_to,
        units=tuple(sorted(set(units))),
        withheld=tuple(sorted(set(withheld))),
        target=target,
        output=digest_of(output_content(said)) if said else "",
        said=said,
    )
    return draft.model_copy(update={"digest": digest_of(_content(draft))})


def output_content(said: Mapping[str, str]) -> dict[str, Any]:
    """Return what the file of everything that was said holds; its digest is over this."""
    return {"format": FORMAT, "kind": "probe-raw", "sessions": dict(said)}


def write_evidence(county_dir: Path, evidence: Evidence) -> Path:
    """Keep evidence on the disk, what was said first, each whole or not at all; does nothing when it is there already.

    Raises:
        EvidenceWriteError: full disk or no rights.
    """
    path = county_dir / evidence.file
    if evidence.said and _find_loss(county_dir / evidence.output_file, evidence.output):
        write_content(county_dir / evidence.output_file, output_content(evidence.said))
    if _read_whole(path, evidence.digest)[0] is None:
        write_content(path, _content(evidence))
    return path


def write_content(path: Path, content: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Write the compressed canonical JSON of some content, whole or not at all.

    Raises:
        EvidenceWriteError: full disk or no rights.
    """
    ready: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, ready = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(gzip.compress(canonical_json(content).encode(), compresslevel=6, mtime=0))
            file.flush()
            os.fsync(file.fileno())
        Path(ready).chmod(mode)
        Path(ready).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if ready is not None:
            Path(ready).unlink(missing_ok=True)
        raise EvidenceWriteError(path, error.strerror or str(error)) from error


def read_evidence(county_dir: Path, body: Mapping[str, Any]) -> Evidence:
    """Return the evidence an event's body names; lost (`problem` says why) when the file is not exactly what it was."""
    claimed = _claimed(body)
    if claimed.problem:
        return claimed
    if not re.fullmatch(r"[0-9a-f]{64}", claimed.digest):  # it becomes a file name
        return claimed.model_copy(update={"problem": f"{claimed.digest!r} is not a digest"})
    found, why = _read_whole(county_dir / claimed.file, claimed.digest)
    if found is None:
        return claimed.model_copy(update={"problem": why})
    holds = found.body()
    if canonical_json({name: value for name, value in body.items() if name in holds}) != canonical_json(holds):
        return claimed.model_copy(update={"problem": f"{claimed.file} says other than its event in the ledger"})
    lost = _find_loss(county_dir / found.output_file, found.output) if found.output else ""
    return claimed.model_copy(update={"problem": lost}) if lost else found


def read_output(county_dir: Path, evidence: Evidence, result: Result) -> tuple[str, ...]:
    """Return what a result of some evidence was read from, word for word; empty where nobody said anything.

    Raises:
        OutputLostError: the file, or these words in it, are not what they were.
    """
    wanted = [str(d) for d in result.raw.get("output", ())]
    if not wanted:
        return ()
    content, why = load_content(county_dir / evidence.output_file, evidence.output)
    sessions = content.get("sessions")
    words = [sessions.get(d) if isinstance(sessions, dict) else None for d in wanted]
    for digest, said in zip(wanted, words, strict=True):
        if not isinstance(said, str) or hashlib.sha256(said.encode()).hexdigest() != digest:
            raise OutputLostError(evidence.output_file, why or f"holds nothing of digest {digest[:12]}")
    return tuple(map(str, words))


def _find_loss(path: Path, digest: str) -> str:
    """Return why a file is not what it was when written (empty when it is). An untouched one is looked at once."""
    try:
        stat = path.stat()
    except OSError:
        return f"{EVIDENCE_DIR}/{path.name} is missing"
    mark = (str(path), digest, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if mark not in _whole:
        _, why = load_content(path, digest)
        if why:
            return why
        _whole.add(mark)
    return ""


_whole: set[tuple[str, str, int, int, int]] = set()


def collect_evidence(
    county_dir: Path, events: Iterable[Event], *, since: float = 0.0, older: int = 5
) -> tuple[Evidence, ...]:
    """Return the evidence of the ledger's events in order: what ended at `since` or later, and the last `older` before.

    The older runs prove nothing any more; they are there so that a reason can say when something was measured last.
    """
    found = [event for event in events if event.kind is Kind.EVIDENCE]
    # Whatever the ledger holds after a recent run is recent, too, even when a clock was set back meanwhile.
    recent = list(accumulate((ended_at(event.body) >= since for event in found), max))
    past = [i for i, is_recent in enumerate(recent) if not is_recent]
    wanted = set(past[-older:]) if older else set()
    read = (
        _for_target(read_evidence(county_dir, event.body), event.target).model_copy(update={"seq": event.seq})
        for i, event in enumerate(found)
        if recent[i] or i in wanted
    )
    return tuple(_refuse_replays(read))


def _for_target(evidence: Evidence, target: str) -> Evidence:
    """Void what was measured on another network than the one its event is about."""
    if evidence.problem or evidence.target == target:
        return evidence
    return _void(evidence, f"{evidence.file} was measured on {evidence.target or 'no named network'}, not on {target}")


def _refuse_replays(read: Iterable[Evidence]) -> Iterator[Evidence]:
    """Void each run that holds answers from sessions of an earlier one: a station answers a request once."""
    first: dict[str, Evidence] = {}
    for evidence in read:
        sessions = {str(s) for r in evidence.results if (s := r.raw.get("session")) is not None}
        sessions.add(f"run {evidence.run}")
        before = next((first[s] for s in sorted(sessions) if s in first), None)
        if before is not None:
            yield _void(evidence, f"{evidence.file} replays answers of event {before.seq}")
            continue
        first |= dict.fromkeys(sessions, evidence)
        yield evidence


def _void(evidence: Evidence, problem: str) -> Evidence:
    """Return evidence that proves nothing any more, and stands against everything older."""
    return evidence.model_copy(update={"results": (), "problem": problem})


def ended_at(body: Mapping[str, Any]) -> float:
    """Return when the run that an event's body is about ended (Unix time); one that cannot be read is newer than any."""
    ended = body.get("taken_to")
    return float(ended) if isinstance(ended, int | float) else float("inf")


def _content(evidence: Evidence) -> dict[str, Any]:
    return {"format": FORMAT, **evidence.model_dump(mode="json", exclude={"digest", "problem", "seq"})}


def _claimed(body: Mapping[str, Any]) -> Evidence:
    """Return what the event alone says: all there is when the file is lost."""
    names = ("digest", "run", "bound", "taken_from", "taken_to", "units", "withheld", "target")
    try:
        return Evidence.model_validate({**{n: body[n] for n in names if n in body}, "results": ()})
    except ValidationError as error:
        first = error.errors()[0]
        # Fail closed: of unknown time and about everything, so newer than anything else.
        return Evidence(
            digest=str(body.get("digest", "")),
            run=str(body.get("run", "")),
            results=(),
            bound=Bound(inventory="", plan="", configs={}),
            taken_from=float("inf"),
            taken_to=float("inf"),
            problem=f"its event in the ledger cannot be read: {first['loc'][:1]}: {first['msg']}",
        )


def _read_whole(path: Path, digest: str) -> tuple[Evidence | None, str]:
    """Return a file's evidence, or why there is none. A file that has not been touched is read and checked once."""
    try:
        stat = path.stat()
    except OSError:
        return None, f"{EVIDENCE_DIR}/{path.name} is missing"
    mark = (str(path), digest, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if mark in _checked:
        return _checked[mark], ""
    content, why = load_content(path, digest)
    if why:
        return None, why
    try:
        found = Evidence.model_validate({**content, "digest": digest})
    except ValidationError as error:
        return None, f"{EVIDENCE_DIR}/{path.name} cannot be read: {error.errors()[0]['msg']}"
    while _checked and sum(len(e.results) for e in _checked.values()) + len(found.results) > _CHECKED_RESULTS:
        del _checked[next(iter(_checked))]
    _checked[mark] = found
    return found, ""


_CHECKED_RESULTS = 60_000
"""How many results may stay in memory; a whole county's run has some three thousand."""
_checked: dict[tuple[str, str, int, int, int], Evidence] = {}


def load_content(path: Path, digest: str) -> tuple[dict[str, Any], str]:
    """Return what `write_content` wrote, and why it is no evidence (empty when it is)."""
    name = f"{EVIDENCE_DIR}/{path.name}"
    try:
        text = gzip.decompress(path.read_bytes())
        found = hashlib.sha256(text).hexdigest()  # it is written as canonical JSON
        if found != digest:
            return {}, f"{name} was changed - expected digest {digest[:12]}, found {found[:12]}"
        content = json.loads(text)
    except FileNotFoundError:
        return {}, f"{name} is missing"
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        return {}, f"{name} cannot be read ({type(error).__name__})"
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return {}, f"{name} is of another format"
    return {field: value for field, value in content.items() if field != "format"}, ""
