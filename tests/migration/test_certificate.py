"""The certificate of retirement: whole or refused, from the ledger alone, the same bytes each time.

`EXTRANET_UPDATE_GOLDEN=1` writes the golden documents anew.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from inventory.errors import CheckFailedError, ExtranetError
from migration.archive import archive_path, write_config
from migration.certificate import CertificateRefusedError, Setback, make_certificate
from migration.certificate_file import (
    check_signature,
    dump_certificate,
    dump_html,
    dump_json,
    list_since,
    read_origin,
    sign_document,
    signature_path,
    write_certificate,
)
from migration.certificate_statement import say_about
from migration.certificate_words import words
from migration.clock import to_iso
from migration.dossier import make_dossier
from migration.events import Event, Kind, digest_of
from migration.evidence import Evidence, write_content, write_evidence
from migration.outage import FORMAT, OutageRecord
from migration.release import describe_release
from migration.soak import SoakOnRecord
from migration.units import Step, UnitState, intent_body, legacy_devices_under, outcome_body
from scripts.commands._shell import console
from scripts.main import app
from tests.migration.scene import T0, Story, bound_now, build_checks, build_county, fail_check, measure, pass_check

GOLDEN = Path(__file__).parent / "golden"
UNIT = "fin@tb"
STEPS = (
    (Step.PROVISION, UnitState.PROVISIONED),
    (Step.CUTOVER, UnitState.CUT_OVER),
    (Step.SOAK, UnitState.SOAKED),
    (Step.DRAIN, UnitState.DRAINED),
    (Step.SHUT, UnitState.SHUT),
    (Step.REMOVE, UnitState.REMOVED),
)
COUNTY = build_county()
SPOILED = next(c for c in build_checks(COUNTY) if (c.station, c.plane) == ("st-tb", "finance"))
"""The check that does not pass in a spoiled step."""


SOAK = SoakOnRecord(
    begun=T0,
    ended=T0 + timedelta(days=7),
    samples=28,
    wanted_s=7 * 86400,
    days=5,
    wanted_days=5,
    samples_a_day=2,
    hours="09:00-17:00",
    time_zone="Asia/Shanghai",
    known=("counters", "neighbors"),
    last_sample="5" * 64,
)
"""How the old line was watched."""


@dataclass
class Told:
    """A folder with a unit's whole life in it, and the events of its ledger."""

    folder: Path
    story: Story

    @property
    def events(self) -> list[Event]:
        return self.story.events


def keep(told: Told, evidence: Evidence) -> Evidence:
    """Keep evidence as a run would."""
    write_evidence(told.folder, evidence)
    told.story.tell(Kind.EVIDENCE, f"evidence/{evidence.digest}", evidence.body())
    return evidence


def archive(told: Told, unit: str, state: UnitState) -> None:
    """Archive a unit's routers as they are in a state."""
    found = COUNTY.unit_by_id[unit]
    routers = legacy_devices_under(COUNTY, found)
    configs = {d: write_config(told.folder, f"hostname {d}\n! {state}\n") for d in routers}
    dossier = make_dossier(COUNTY, found, None).model_dump(mode="json")
    body: dict[str, object] = {"note": "archive", "state": state.value, "configs": configs, "dossier": dossier}
    told.story.tell(Kind.NOTE, f"archive/{unit}/{state}", body, unit)


def keep_watch(told: Told, attempt: str) -> OutageRecord:
    """Keep the record of a watch that felt nothing, as a step would."""
    draft = OutageRecord(attempt=attempt, budget_s=10, rate_per_s=10, targets=(), decided=True)
    content = {"format": FORMAT, "felt": draft.model_dump(mode="json", exclude={"digest"}), "raw": {}}
    found = draft.altered(digest=digest_of(content))
    write_content(told.folder / found.file, content)
    return found


def nothing(_: Told) -> None:
    """Tell nothing more."""


def tell(
    folder: Path,
    *,
    released: bool = False,
    spoil: Step | None = None,
    until: Step | None = None,
    watched: Step | None = None,
    before: Callable[[Told], Any] = nothing,
) -> Told:
    """Tell a unit's life to its removal; in the step `spoil` one check did not pass, and `before` it more was told.

    The windows were watched during the step `watched`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told, start = Told(folder, Story()), UnitState.SURVEYED
    for step, end in STEPS:
        if step in {Step.CUTOVER, Step.DRAIN, Step.REMOVE}:
            archive(told, UNIT, start)
        key = f"20270901T080000-{step}-abc/{UNIT}"
        if step is spoil:
            before(told)
        if step is not Step.SOAK:
            intent = intent_body(step, start=start, end=end, devices=["fin-tb"], change=key.partition("/")[0])
            told.story.tell(Kind.INTENT, key, intent, UNIT)
        digest = ""
        if step not in {Step.PROVISION, Step.SOAK}:
            at = told.story.at
            results = [pass_check(c, at) for c in build_checks(COUNTY)]
            if step is spoil:
                place = next(i for i, r in enumerate(results) if r.check == SPOILED)
                results[place] = fail_check(SPOILED, at)
            bound = bound_now(COUNTY, **{"fin-tb": f"{step} of fin-tb"})
            run = measure(COUNTY, at, results=results, bound=bound, withheld=[UNIT], units=[UNIT])
            digest = keep(told, run.model_copy()).digest
            told.story.wait_s(20)
        body = outcome_body(step, result="done", state=end, devices={"fin-tb": "0" * 64}, evidence=digest)
        body |= {"soak": SOAK.model_dump(mode="json")} if step is Step.SOAK else {}
        body |= {"outage": keep_watch(told, key).summary()} if step is watched else {}
        told.story.tell(Kind.OUTCOME, key, body, UNIT)
        told.story.wait_s(3600)
        start = end
        if step is until:
            return told
    if released:
        gone = describe_release(
            make_dossier(COUNTY, COUNTY.unit_by_id[UNIT], None), "号<1>", datetime(2027, 10, 1, tzinfo=UTC).date()
        )
        body = outcome_body(Step.RELEASE, result="done", state=UnitState.RELEASED, devices={})
        body["release"] = gone.model_dump(mode="json")
        told.story.tell(Kind.OUTCOME, "release/1", body, UNIT)
    return told


def missing(told: Told, events: list[Event] | None = None, *units: str) -> str:
    """What a refused certificate says is missing."""
    with pytest.raises(CertificateRefusedError) as caught:
        make_certificate(told.folder, told.events if events is None else events, units or (UNIT,))
    assert caught.value.exit_code == 3
    return "\n".join(caught.value.missing)


def test_it_says_what_happened(tmp_path: Path) -> None:
    """Dates, who, counts by station, digests of everything, and the end of the ledger it draws on."""
    told = tell(tmp_path, released=True)
    made = make_certificate(told.folder, told.events, [UNIT])
    (unit,) = made.units
    assert [s.state for s in unit.stages] == [end for _, end in STEPS] + [UnitState.RELEASED]
    assert {s.actor for s in unit.stages} == {"the engineer"}
    assert [p.step for p in unit.proofs] == [Step.CUTOVER, Step.DRAIN, Step.SHUT, Step.REMOVE]
    (row,) = unit.proofs[0].stations
    assert (row.station, row.services) == ("st-tb", ("ledgers", "portal"))
    assert (row.ipv6, row.ipv4, row.closed) == ((2, 2), (1, 1), (1, 1))
    assert {p.digest for p in unit.proofs} <= {r.digest for r in unit.runs}
    assert [a.state for a in unit.archives] == [UnitState.PROVISIONED, UnitState.SOAKED, UnitState.SHUT]
    assert (made.seq, made.hash) == (told.events[-1].seq, told.events[-1].hash)
    assert unit.release is not None
    assert [str(q.prefix) for q in unit.quarantine] == ["10.20.2.0/24", "10.20.255.4/30"]
    assert made.rehearsal


def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    """Made twice, and again after the ledger went on about others, every format is the same byte for byte."""
    told = tell(tmp_path)
    before = make_certificate(told.folder, told.events, [UNIT])
    told.story.go("soc@ta", to=UnitState.CUT_OVER)
    keep(told, measure(COUNTY, told.story.at, units=["soc@ta"]))
    after = make_certificate(told.folder, told.events, [UNIT])
    assert before == after
    assert dump_html(before, "zh") == dump_certificate(after, "html", "zh")
    assert dump_html(before, "en") == dump_certificate(after, "html", "en")
    assert dump_json(before) == dump_certificate(after, "json", "zh")


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_golden(tmp_path: Path, lang: str) -> None:
    """The document is the golden one."""
    told = tell(tmp_path, released=True)
    document = dump_html(make_certificate(told.folder, told.events, [UNIT]), lang)  # type: ignore[arg-type]
    path = GOLDEN / f"certificate.{lang}.html"
    if os.environ.get("EXTRANET_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(document)
    assert document == path.read_bytes()


@pytest.mark.parametrize("kind", ["zh", "en", "json"])
def test_a_document_says_of_which_event_it_is(tmp_path: Path, kind: str) -> None:
    """From a document alone its event and its language are read, and made anew from them it is the same; of noise nothing is."""
    told = tell(tmp_path)
    made = make_certificate(told.folder, told.events, [UNIT])
    document = dump_json(made) if kind == "json" else dump_html(made, kind)  # type: ignore[arg-type]
    assert read_origin(document) == (made.seq, None if kind == "json" else kind)
    for noise in (b"", b"{}", b"[1]", b'{"seq": "x"}', b'{"seq": true}', b'<html lang="fr">', document[:60]):
        assert read_origin(noise) is None


def test_what_was_recorded_since_is_said(tmp_path: Path) -> None:
    """After a release, an exception, or anything else, what came is named with its event; of the same there is nothing."""
    told = tell(tmp_path)
    then = make_certificate(told.folder, told.events, [UNIT])
    assert list(list_since(then, then)) == []
    told = tell(tmp_path, released=True)
    now = make_certificate(told.folder, told.events, [UNIT])
    assert list(list_since(then, now)) == [f"{UNIT} released at event {now.seq}"]
    except_(told, name="E-2")
    later = make_certificate(told.folder, told.events, [UNIT])
    assert list(list_since(now, later)) == [f"exception E-2 for {UNIT}"]
    other = later.altered(units=(later.units[0].altered(runs=()),))
    assert list(list_since(later, other)) == [f"more about {UNIT}, up to event {later.seq}"]


@pytest.mark.parametrize("kind", ["zh", "en", "json"])
def test_a_document_of_before_a_release_is_still_genuine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """`--check` needs no --lang; an older document is true as of its event, and what came since is said; a changed one is not."""
    told = tell(tmp_path / "county", released=True)
    ledger = SimpleNamespace(events=lambda **_: told.events)
    monkeypatch.setattr("migration.campaign.open_ledger", lambda *_, **__: ledger)
    monkeypatch.setattr("migration.campaign.choose_record", lambda *_: "lab t")
    older = make_certificate(told.folder, told.events[:-1], [UNIT])
    path = tmp_path / ("c.json" if kind == "json" else "c.html")

    def check(*more: str) -> tuple[int, str]:
        words = ["certificate", UNIT, "--check", str(path), "--county", str(told.folder), *more]
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.stdout + result.stderr

    path.write_bytes(dump_certificate(older, *(("json", "zh") if kind == "json" else ("html", kind))))
    console.cache_clear()
    code, said = check()
    console.cache_clear()
    assert (code, f"is true as of event {older.seq} of lab t" in said) == (0, True), said
    assert f"since then: {UNIT} released at event {told.events[-1].seq}" in said
    assert json.loads(check("--json")[1])["since"] == [f"{UNIT} released at event {told.events[-1].seq}"]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"the engineer", b"the engineers"))
    assert check()[0] == 1
    early = re.sub(rb"(-|\"seq\": )%d\b" % older.seq, rb"\g<1>3", whole)
    path.write_bytes(early)
    assert (early != whole, check()[0]) == (True, 1)
    now = make_certificate(told.folder, told.events, [UNIT])
    path.write_bytes(dump_certificate(now, *(("json", "zh") if kind == "json" else ("html", kind))))
    assert json.loads(check("--json")[1])["since"] == []


def test_what_went_back_is_told_in_the_documents_language(tmp_path: Path) -> None:
    """The annex of a Chinese document has no bare word of ours in English: what it quotes, it calls a quotation."""
    told = tell(tmp_path)
    made = make_certificate(told.folder, told.events, [UNIT])
    reasons = ("interrupted by Ctrl-C", "interrupted; everything went back", "not kept", "tcp: found none", "")
    backs = tuple(Setback(at=T0, step="shut", result="undone", reason=r) for r in reasons)
    made = made.altered(units=(made.units[0].altered(setbacks=backs),))
    page = dump_html(made, "zh").decode()
    rows = re.findall(r"<td>关闭</td><td>([^<]*)</td><td>([^<]*)</td>", page)
    assert rows == [
        ("已退回", why) for why in ("被 Ctrl-C 中断", "中断，已全部退回", "未保留", "记录原文：tcp: found none", "")
    ]
    assert "<td>undone</td><td>interrupted by Ctrl-C</td>" in dump_html(made, "en").decode()
    assert "账本" not in page


def test_it_needs_nothing_from_outside(tmp_path: Path) -> None:
    """The page loads nothing and runs nothing: no address to fetch, no script, and a policy that forbids both."""
    told = tell(tmp_path)
    page = dump_html(make_certificate(told.folder, told.events, [UNIT]), "zh").decode()
    assert not re.search(r"https?://|<script|<img|<link|@import|url\(", page)
    assert "default-src 'none'" in page
    assert "@page { size: A4" in page


def test_names_from_tables_cannot_write_the_page(tmp_path: Path) -> None:
    """Whatever stands in a table or on a notice is text in the page, never markup."""
    told = tell(tmp_path, released=True)
    nasty = "<img src=x onerror=alert(1)>&\"'"
    made = make_certificate(told.folder, told.events, [UNIT])
    unit = made.units[0].altered(
        dossier=made.units[0].dossier.altered(network_name=nasty, provider=nasty, tenant=nasty)
    )
    page = dump_html(made.altered(units=(unit,), county=nasty, target=nasty), "en").decode()
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 5
    assert "号&lt;1&gt;" in page
    assert json.loads(dump_json(made.altered(county=nasty)))["county"] == nasty


def first_page(told: Told, soak: SoakOnRecord | None = SOAK, actor: str = "the engineer") -> str:
    """The statement of a certificate in English, up to its annexes."""
    made = make_certificate(told.folder, told.events, [UNIT])
    unit = made.units[0]
    stages = tuple(s.altered(actor=actor) for s in unit.stages)
    page = dump_html(made.altered(units=(unit.altered(soak=soak, stages=stages),)), "en").decode()
    return page.partition('class="annex"')[0]


def test_the_first_page_says_it_in_sentences(tmp_path: Path) -> None:
    """The statement says how the old line was watched and proven in a sentence each; digests and figures are annexes."""
    told = tell(tmp_path)
    page = first_page(told)
    assert "From 2027-09-01 16:00 to 2027-09-08 16:00 (7 d) the old line was looked at 28 times without a break" in page
    assert "counters of its ports stood at zero but for routing hellos, nobody else was heard on it" in page
    assert "5 business days covered (5 asked for, with 2 samples each in 09:00-17:00, Asia/Shanghai)" in page
    assert (
        "Measured 2 times with the old line closed (shut, removal) and 2 times with it up (cutover, drain): every"
        in page
    )
    assert not re.search("[0-9a-f]{64}", page)
    assert "<th>Services" not in page


def test_a_soak_that_was_not_whole_is_not_said_to_be(tmp_path: Path) -> None:
    """A soak that was cut short says by which exception, one without samples that there were none, and an old ledger nothing."""
    told = tell(tmp_path)
    assert "cut short under exception E-7" in first_page(told, SOAK.altered(excused_by="E-7"))
    nobody = first_page(told, SOAK.altered(begun=None, ended=None, samples=0, excused_by="E-7"))
    assert "no unbroken run of clean samples" in nobody
    assert "nobody used it" not in nobody
    unsaid = first_page(told, None)
    assert "How it was watched is not in the ledger" in unsaid
    assert "nobody used it" not in unsaid


def test_an_account_is_nobodys_title(tmp_path: Path) -> None:
    """What was recorded under a bare system account is shown as that account's, and a title as it is."""
    told = tell(tmp_path)
    assert "recorded by account root;" in first_page(told, actor="root")
    assert "recorded by 网络科长;" in first_page(told, actor="网络科长")


def test_every_run_of_the_annex_says_what_it_was_about(tmp_path: Path) -> None:
    """A run decided a stage, or names its units, or the stations and planes that it measured; none is about everything."""
    told = tell(tmp_path)
    decided = make_certificate(told.folder, told.events, [UNIT]).units[0].runs[0]
    named = decided.altered(step=None, units=("a@b", "c@d", "e@f"))
    whole = decided.altered(step=None, units=(), stations=3, planes=("finance", "social"))
    said = [say_about(r, "en") for r in (decided, named, whole, whole.altered(stations=0))]
    assert said == [
        "decided the cutover",
        "a@b, c@d and 1 more",
        "stations: 3, planes: finance, social",
        "its file is gone",
    ]


@pytest.mark.parametrize("step", [Step.CUTOVER, Step.SHUT])
@pytest.mark.parametrize("harm", ["gone", "altered"])
def test_an_outage_record_that_is_not_as_it_was_is_missing(tmp_path: Path, step: Step, harm: str) -> None:
    """What was felt is certified while its record is whole; without it the certificate is refused, with the file's name."""
    told = tell(tmp_path, watched=step)
    (unit,) = make_certificate(told.folder, told.events, [UNIT]).units
    assert [o.step for o in unit.outages] == [step]
    (path,) = told.folder.glob("evidence/*.watch.json.gz")
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(
            gzip.compress(gzip.decompress(path.read_bytes()).replace(b'"decided":true', b'"decided":false'))
        )
    why = missing(told)
    assert f"{UNIT}: the outage record of the {step} is lost: evidence/{path.name} " in why


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_page_tells_how_to_check_each_file(tmp_path: Path, lang: str) -> None:
    """With the digests of the annex put in, the commands on the page find every file and print its digest."""
    told = tell(tmp_path, watched=Step.CUTOVER)
    made = make_certificate(told.folder, told.events, [UNIT])
    page = dump_html(made, lang).decode()  # type: ignore[arg-type]
    (line,) = re.findall("<code>(zcat .*?)</code>", page)
    unit = made.units[0]
    digests = [unit.runs[0].digest, unit.outages[0].digest, archives_of(told)[0]]
    for command, digest in zip(line.split("; "), digests, strict=True):
        assert digest in page
        done = subprocess.run(
            ["/bin/sh", "-c", command.replace("DIGEST", digest)], cwd=told.folder, capture_output=True, check=True
        )
        assert done.stdout.split()[0].decode() == digest


@pytest.mark.parametrize("until", [s for s, _ in STEPS[:-1]])
def test_before_removed_it_is_refused(tmp_path: Path, until: Step) -> None:
    """Until a unit is removed there is no certificate, and the refusal says where it stands."""
    told = tell(tmp_path, until=until)
    state = dict(STEPS)[until]
    assert f"{UNIT}: expected removed or later, found {state}" in missing(told)
    assert f"{UNIT}: expected removed" in missing(told, [])


LOST: dict[str, tuple[Callable[[Told], Any], str]] = {
    "archive": (lambda t: archive_path(t.folder, archives_of(t)[0]).unlink(), "is missing"),
    "archive changed": (lambda t: archive_path(t.folder, archives_of(t)[-1]).write_text("x"), "was changed"),
    "evidence": (lambda t: next((t.folder / "evidence").iterdir()).unlink(), "is lost: evidence/"),
}


def archives_of(told: Told) -> list[str]:
    """Digests of everything archived, in order."""
    return [sha for e in told.events if e.kind is Kind.NOTE for sha in e.body["configs"].values()]


@pytest.mark.parametrize("name", LOST)
def test_a_lost_file_refuses(tmp_path: Path, name: str) -> None:
    """An archive or evidence file that is gone or changed is said, and there is no certificate."""
    told = tell(tmp_path)
    spoil, why = LOST[name]
    spoil(told)
    assert why in missing(told)


def test_any_needed_event_missing_refuses(tmp_path: Path) -> None:
    """Without any single outcome, piece of evidence, or the last archive that it rests on there is no certificate."""
    told = tell(tmp_path)
    needed = [
        e
        for e in told.events
        if e.kind is Kind.EVIDENCE
        or (e.kind is Kind.OUTCOME and e.body["step"] != "provision")
        or (e.kind is Kind.NOTE and e.body["state"] == "shut")
    ]
    assert len(needed) == 10
    for gone in needed:
        assert missing(told, [e for e in told.events if e is not gone])


def test_a_stage_taken_back_is_certified_by_its_repetition(tmp_path: Path) -> None:
    """Shut, taken back and shut again: the second time counts, the drain before it stays, and the way back is told."""
    told = tell(tmp_path, until=Step.SHUT)
    first = told.events[-1]
    body = outcome_body(Step.BACK, result="done", state=UnitState.DRAINED, devices={})
    told.story.tell(Kind.OUTCOME, "back/1", body, UNIT)
    evidence = keep(told, measure(COUNTY, told.story.at, withheld=[UNIT], units=[UNIT]))
    told.story.tell(Kind.OUTCOME, "shut/2", first.body | {"evidence": evidence.digest}, UNIT)
    archive(told, UNIT, UnitState.SHUT)
    told.story.wait_s(20)
    last = keep(told, measure(COUNTY, told.story.at, withheld=[UNIT], units=[UNIT]))
    body = outcome_body(Step.REMOVE, result="done", state=UnitState.REMOVED, devices={}, evidence=last.digest)
    told.story.tell(Kind.OUTCOME, "remove/1", body, UNIT)
    (unit,) = make_certificate(told.folder, told.events, [UNIT]).units
    assert [s.state for s in unit.stages] == [end for _, end in STEPS]
    assert next(s.change for s in unit.stages if s.state is UnitState.SHUT) == "shut/2"
    assert next(s.change for s in unit.stages if s.state is UnitState.DRAINED).startswith("20270901T080000-drain")
    assert [s.step for s in unit.setbacks] == ["back"]


def test_an_unfinished_change_refuses(tmp_path: Path) -> None:
    """While a change of the unit is open nothing is certified of it."""
    told = tell(tmp_path)
    told.story.begin(Step.REMOVE, UNIT, UnitState.SHUT, UnitState.REMOVED, "fin-tb")
    assert "a change is unfinished" in missing(told)


def except_(
    told: Told, *, reason: dict[str, str] | None = None, name: str = "E-1", confirmed_on: str = "", **more: str
) -> Event:
    """Record an exception for the check that is about to fail, or another one."""
    named = {
        "station": SPOILED.station,
        "service": SPOILED.service,
        "check": SPOILED.id,
        "kind": "failed",
        "aspect": "tcp",
        "why": "tcp: refused",
    }
    body: dict[str, object] = {
        "id": name,
        "gate": "shut",
        "reasons": [named | (reason or {})],
        "why": "the window is closed for works",
        "by": "head of network",
        "approved_by": "head of office",
        "until": "2027-09-02T00:00:00.000000Z",
        **more,
    }
    made = told.story.tell(Kind.EXCEPTION, f"exception/{name}", body, UNIT)
    agreed: dict[str, object] = {"confirms": name, "approved_by": body["approved_by"], "login": confirmed_on}
    told.story.tell(Kind.EXCEPTION, f"exception/{name}/confirmed", agreed, UNIT, actor="another")
    return made


def withdraw(told: Told) -> None:
    """Take the exception back."""
    body: dict[str, object] = {"withdraws": "E-1", "by": "head of network", "why": "the works are done"}
    told.story.tell(Kind.EXCEPTION, "exception/E-1/withdrawn", body, UNIT)


def withdrawn(told: Told) -> None:
    """Record an exception and take it back."""
    except_(told)
    withdraw(told)


def expired(told: Told) -> None:
    """Record an exception and let it run out."""
    except_(told, until=to_iso(told.story.at + timedelta(seconds=60)))
    told.story.wait_s(3600)


USELESS: dict[str, Callable[[Told], Any]] = {
    "none": nothing,
    "withdrawn": withdrawn,
    "one title twice": lambda t: except_(t, approved_by="head of network"),
    "unreadable": lambda t: except_(t, until="some day"),
    "longer than any policy allows": lambda t: except_(t, until="2028-09-02T00:00:00.000000Z"),
    "over before it began": lambda t: except_(t, until="2027-09-01T08:00:00.000000Z"),
    "over": expired,
    "another gate": lambda t: except_(t, gate="drain"),
    "another station": lambda t: except_(t, reason={"station": "st-ta"}),
    "another station's check": lambda t: except_(t, reason={"check": SPOILED.id.replace("st-tb", "st-ta")}),
    "another aspect": lambda t: except_(t, reason={"aspect": "dns"}),
    "another kind": lambda t: except_(t, reason={"kind": "unknown"}),
    "what nothing excuses": lambda t: except_(t, reason={"kind": "in-use"}),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_failure_that_no_exception_names_refuses(tmp_path: Path, name: str) -> None:
    """Where a check of its stations did not pass, an exception that counts for nothing or names another excuses nothing."""
    told = tell(tmp_path, spoil=Step.SHUT, before=USELESS[name])
    assert "in the evidence of the shut 1 of" in missing(told)


def test_an_exception_recorded_afterwards_refuses(tmp_path: Path) -> None:
    """An exception excuses nothing that was decided before it was recorded."""
    told = tell(tmp_path, spoil=Step.SHUT)
    except_(told, until="2027-09-03T00:00:00.000000Z")
    assert "in the evidence of the shut 1 of" in missing(told)


def test_an_exception_excuses_its_own_step_alone(tmp_path: Path) -> None:
    """The same failure in another step is not excused with it."""
    told = tell(tmp_path, spoil=Step.DRAIN, before=except_)
    assert "in the evidence of the drain 1 of" in missing(told)


@pytest.mark.parametrize("after", [nothing, withdraw])
def test_what_an_exception_named_is_certified_under_it(tmp_path: Path, after: Callable[[Told], Any]) -> None:
    """A failure that a standing exception named then is certified, and the exception stands in front, withdrawn later or not."""
    told = tell(tmp_path, spoil=Step.SHUT, before=except_)
    after(told)
    page = dump_html(make_certificate(told.folder, told.events, [UNIT]), "en").decode()
    head, found, _ = page.partition("<h2>The stages")
    assert found
    for word in (
        "Attention: exceptions",
        "E-1",
        "head of network",
        "head of office",
        "closed for works",
        f"st-tb → {SPOILED.service}",
    ):
        assert word in head
    assert "and passed" not in head
    assert "every check passed" not in head
    assert "1 check did not pass, under the exceptions above" in head


@pytest.mark.parametrize("second", ["netops at one", "netops at two", ""])
def test_an_exception_that_one_account_made_is_called_that(tmp_path: Path, second: str) -> None:
    """Where both typed on one account of one host, the document says so beside their titles; elsewhere it does not."""
    told = tell(tmp_path, spoil=Step.SHUT, before=lambda t: except_(t, login="netops at one", confirmed_on=second))
    (found,) = make_certificate(told.folder, told.events, [UNIT]).units[0].exceptions
    page = dump_html(make_certificate(told.folder, told.events, [UNIT]), "en").decode()
    assert (found.one_login == "netops at one") == (second == "netops at one")
    assert ("(both on one account, netops at one)" in page) == (second == "netops at one")


def test_a_cutover_under_an_exception_is_certified(tmp_path: Path) -> None:
    """An exception to the cutover covers what was measured with the old path withheld."""
    told = tell(tmp_path, spoil=Step.CUTOVER, before=lambda t: except_(t, gate="cutover"))
    assert make_certificate(told.folder, told.events, [UNIT]).units[0].exceptions


def test_two_units_in_one_document(tmp_path: Path) -> None:
    """Everything that is missing of any unit is said at once; one that is whole does not cover for another."""
    told = tell(tmp_path)
    text = missing(told, None, UNIT, "fin@ta")
    assert "fin@ta: expected removed or later, found surveyed" in text
    assert UNIT not in text


def test_a_document_is_never_written_over_by_another(tmp_path: Path) -> None:
    """The same again is no matter; another document under the same name is refused, and the first stays."""
    path = tmp_path / "c.html"
    write_certificate(path, b"one")
    write_certificate(path, b"one")
    with pytest.raises(ExtranetError, match="says something else"):
        write_certificate(path, b"two")
    assert path.read_bytes() == b"one"


def test_signatures(tmp_path: Path) -> None:
    """A signature holds for its document and key, and for no other; a damaged one is no signature."""
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    path = signature_path(tmp_path / "c.html")
    path.write_bytes(sign_document(b"document", key))
    assert check_signature(b"document", path, key.public_key()).startswith("SHA256:")
    assert json.loads(path.read_bytes())["sha256"] == hashlib.sha256(b"document").hexdigest()
    for document, public in ((b"documenT", key.public_key()), (b"document", other.public_key())):
        with pytest.raises(CheckFailedError, match="not the signature"):
            check_signature(document, path, public)
    for damaged in (b"", b"{}", b"[]", b'{"signature": "%%%"}'):
        path.write_bytes(damaged)
        with pytest.raises(CheckFailedError, match="no signature"):
            check_signature(b"document", path, key.public_key())


def test_words_are_whole_in_both_languages() -> None:
    """Every state and every word is there in both languages, with the same places to fill in."""
    zh, en = words("zh"), words("en")
    assert set(zh) == set(en)
    for lang in (zh, en):
        assert set(lang["states"]) == {s.value for s in UnitState}
    for name, text in zh.items():
        if isinstance(text, str):
            assert text.strip()
            assert len(re.findall("%[sd]", text)) == len(re.findall("%[sd]", en[name])), name
