"""Evidence: kept whole or not at all, and no evidence any more once anything about it has changed."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from inventory.reader import load_county
from migration.events import Kind
from migration.evidence import (
    Evidence,
    EvidenceWriteError,
    OutputLostError,
    collect_evidence,
    config_digest,
    inventory_digest,
    load_content,
    make_evidence,
    read_evidence,
    read_output,
    write_evidence,
)
from tests.migration.scene import T0, Story, build_county, measure

COUNTY = build_county()
RUN = measure(COUNTY, T0, units=("fin@ta", "fin@tb"), withheld=("fin@ta",))


def test_evidence_comes_back_equal(tmp_path: Path) -> None:
    """What is written is read back equal from its event's body, and writing it again changes nothing."""
    path = write_evidence(tmp_path, RUN)
    assert path == tmp_path / RUN.file
    before = path.stat().st_mtime_ns
    assert read_evidence(tmp_path, json.loads(json.dumps(RUN.body()))) == RUN
    assert write_evidence(tmp_path, RUN) == path
    assert path.stat().st_mtime_ns == before
    assert list(path.parent.iterdir()) == [path]


def test_the_body_says_what_the_file_holds() -> None:
    """The event's body counts the results and names the file, what they are bound to and whose path was withheld."""
    body = RUN.body()
    assert body["results"] == body["passed"] == len(RUN.results) > 0
    assert body["file"] == f"evidence/{RUN.digest}.json.gz"
    assert body["units"] == ["fin@ta", "fin@tb"]
    assert body["withheld"] == ["fin@ta"]
    assert body["bound"]["inventory"] == inventory_digest(COUNTY)
    assert body["taken_to"] == body["taken_from"] + 10


def test_the_digest_covers_everything_but_order() -> None:
    """The order of results does not matter to the digest; everything else does."""
    results = list(RUN.results)
    Random(4).shuffle(results)

    def again(**changes: object) -> Evidence:
        names = ("run", "bound", "taken_from", "taken_to", "units", "withheld", "target")
        fields = {n: getattr(RUN, n) for n in names}
        return make_evidence(changes.pop("results", results), **(fields | changes))  # type: ignore[arg-type]

    assert again() == RUN
    bound = RUN.bound.altered(plan="x")
    for changes in (
        {"run": "x"},
        {"bound": bound},
        {"taken_from": 0.0},
        {"taken_to": 0.0},
        {"units": ()},
        {"withheld": ()},
        {"target": "field"},
        {"results": results[1:]},
        {"results": [results[0].altered(ms=9.0), *results[1:]]},
    ):
        assert again(**changes).digest != RUN.digest, changes


def test_config_and_inventory_have_stable_digests() -> None:
    """A configuration's digest is its sha256; an inventory's changes with any edit of it."""
    assert config_digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert inventory_digest(build_county()) == inventory_digest(COUNTY)
    renamed = COUNTY.altered(stations=(COUNTY.stations[0].altered(windows=5), *COUNTY.stations[1:]))
    assert inventory_digest(renamed) != inventory_digest(COUNTY)


def test_the_sample_county_has_a_digest() -> None:
    """The sample county can be bound to, and gives the same digest when it is read again."""
    folder = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"
    assert inventory_digest(load_county(folder)) == inventory_digest(load_county(folder))


def rewrite(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    """Change what is inside the file, compressed well."""

    def act(path: Path) -> None:
        content = json.loads(gzip.decompress(path.read_bytes()))
        change(content)
        path.write_bytes(gzip.compress(json.dumps(content).encode()))

    return act


def flip(content: dict[str, object]) -> None:
    """Turn one result."""
    results = content["results"]
    assert isinstance(results, list)
    results[0]["outcome"] = "failed"


DEEP = b"[" * 200_000

SPOILINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "is missing"),
    "empty": (lambda p: p.write_bytes(b""), "was changed"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-40]), "cannot be read"),
    "a bit": (lambda p: p.write_bytes(p.read_bytes()[:200] + b"\0" + p.read_bytes()[201:]), ""),
    "no gzip": (lambda p: p.write_text("{}"), "cannot be read"),
    "another thing": (lambda p: p.write_bytes(gzip.compress(b"[]")), "was changed"),
    "nested deep": (lambda p: p.write_bytes(gzip.compress(DEEP)), "was changed"),
    "a result turned": (rewrite(flip), "was changed - expected digest"),
    "time moved": (rewrite(lambda c: c.update(taken_from=0)), "was changed"),
    "a later format": (rewrite(lambda c: c.update(format=2)), "was changed"),
    "not a number": (rewrite(lambda c: c.update(taken_from=float("nan"))), "was changed"),
}


@pytest.mark.parametrize("name", sorted(SPOILINGS))
def test_a_spoiled_file_is_no_evidence(tmp_path: Path, name: str) -> None:
    """A file that is missing or changed in any way has no results, and says why; what its event claims remains."""
    act, why = SPOILINGS[name]
    act(write_evidence(tmp_path, RUN))
    found = read_evidence(tmp_path, RUN.body())
    assert why in found.problem
    assert found.problem
    assert found.results == ()
    assert (found.taken_to, found.units) == (RUN.taken_to, RUN.units)


WORDS = {hashlib.sha256(w.encode()).hexdigest(): w for w in ("EXTRANET 1 {}", "EXTRANET 2 {}", "EXTRANET 3 {}")}


def with_words() -> Evidence:
    """Return a run whose results were read from what two stations each and one server said."""
    one, two, server = WORDS
    results = [
        r.model_copy(update={"raw": {**r.raw, "output": own}, "said": {d: WORDS[d] for d in own}})
        for r, own in zip(RUN.results, [[one, server], [two, server]] * len(RUN.results), strict=False)
    ]
    return make_evidence(results, run="w", bound=RUN.bound, taken_from=RUN.taken_from, taken_to=RUN.taken_to)


def test_what_was_said_is_kept_once_and_found_by_each_result(tmp_path: Path) -> None:
    """Words that many results were read from stand once in a file of their own, under their digests."""
    run = with_words()
    write_evidence(tmp_path, run)
    kept = json.loads(gzip.decompress((tmp_path / run.output_file).read_bytes()))
    assert kept["sessions"] == WORDS
    assert hashlib.sha256(gzip.decompress((tmp_path / run.output_file).read_bytes())).hexdigest() == run.output
    found = read_evidence(tmp_path, json.loads(json.dumps(run.body())))
    assert (found.problem, found.output, found.body()) == ("", run.output, run.body())
    one, two, server = WORDS
    assert read_output(tmp_path, found, found.results[0]) in ((WORDS[one], WORDS[server]), (WORDS[two], WORDS[server]))
    assert all("EXTRANET" not in r.model_dump_json() for r in found.results)
    assert read_output(tmp_path, RUN, RUN.results[0]) == ()


def swap(content: dict[str, object]) -> None:
    """Put one session's words in another's place."""
    words = content["sessions"]
    assert isinstance(words, dict)
    one, two, *_ = words
    words[one], words[two] = words[two], words[one]


@pytest.mark.parametrize("name", ["words swapped", *sorted(SPOILINGS.keys() - {"a result turned", "not a number"})])
def test_results_whose_words_are_gone_or_changed_are_no_evidence(tmp_path: Path, name: str) -> None:
    """A raw file that is missing or changed in any way voids the results read from it, which are themselves untouched."""
    act, why = (rewrite(swap), "was changed") if name == "words swapped" else SPOILINGS[name]
    run = with_words()
    write_evidence(tmp_path, run)
    act(tmp_path / run.output_file)
    found = read_evidence(tmp_path, run.body())
    assert why in found.problem
    assert f"{run.output}.raw.gz" in found.problem
    assert found.results == ()
    with pytest.raises(OutputLostError, match=r"\.raw\.gz"):
        read_output(tmp_path, run, run.results[0])
    write_evidence(tmp_path, run)
    assert read_evidence(tmp_path, run.body()).problem == ""


def test_an_event_that_is_silent_about_what_was_said_is_no_evidence(tmp_path: Path) -> None:
    """Nobody takes the words away by leaving them out of the event."""
    run = with_words()
    write_evidence(tmp_path, run)
    bare = {name: value for name, value in run.body().items() if name != "output"}
    assert "says other than its event" in read_evidence(tmp_path, bare).problem


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (DEEP, "cannot be read (RecursionError)"),
        (b"no JSON", "cannot be read (JSONDecodeError)"),
        (b"[]", "is of another format"),
        (b'{"format":2}', "is of another format"),
    ],
)
def test_a_file_that_is_what_its_name_says_may_still_be_none(tmp_path: Path, text: bytes, why: str) -> None:
    """What cannot be read, or is of another format, is named as that even when its digest is the expected one."""
    digest = hashlib.sha256(text).hexdigest()
    path = tmp_path / f"{digest}.json.gz"
    path.write_bytes(gzip.compress(text))
    assert load_content(path, digest) == ({}, f"evidence/{path.name} {why}")


@pytest.mark.parametrize(
    "change", [{"passed": 0}, {"taken_from": 1.0}, {"withheld": ["fin@tb"]}, {"units": []}, {"results": 1}]
)
def test_an_event_that_says_other_than_the_file_is_no_evidence(tmp_path: Path, change: dict[str, object]) -> None:
    """When event and file disagree, neither is believed."""
    write_evidence(tmp_path, RUN)
    assert "says other than its event" in read_evidence(tmp_path, RUN.body() | change).problem


@pytest.mark.parametrize("change", [{"digest": "../../etc/passwd"}, {"digest": "x" * 64}, {"taken_to": "soon"}])
def test_an_event_that_makes_no_sense_is_no_evidence(tmp_path: Path, change: dict[str, object]) -> None:
    """A body that cannot be read is lost evidence about everything, and no file outside the folder is looked at."""
    write_evidence(tmp_path, RUN)
    assert read_evidence(tmp_path, RUN.body() | change).problem


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    """Writing evidence whose file is damaged puts the whole file back."""
    path = write_evidence(tmp_path, RUN)
    path.write_bytes(b"x")
    write_evidence(tmp_path, RUN)
    assert read_evidence(tmp_path, RUN.body()) == RUN


def test_evidence_is_collected_by_time(tmp_path: Path) -> None:
    """What ended since a time is collected, and the last few before it; lost files stay in, with their reason."""
    story = Story()
    runs = [measure(COUNTY, T0 + timedelta(hours=n)) for n in range(6)]
    for run in runs:
        path = write_evidence(tmp_path, run)
        story.tell(Kind.EVIDENCE, run.digest, run.body())
    story.tell(Kind.NOTE, "n", {})
    since = runs[4].taken_from
    digests = [r.digest for r in runs]
    assert [e.digest for e in collect_evidence(tmp_path, story.events)] == digests
    assert [e.digest for e in collect_evidence(tmp_path, story.events, since=since, older=0)] == digests[4:]
    assert [e.digest for e in collect_evidence(tmp_path, story.events, since=since, older=2)] == digests[2:]
    path.unlink()
    assert [bool(e.problem) for e in collect_evidence(tmp_path, story.events, since=since, older=0)] == [False, True]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 kB, full but for one page."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], check=True)
    (place / "stone").write_bytes(b"x" * 12_000)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.lab
def test_a_full_disk_leaves_no_half_file(small_disk: Path) -> None:
    """On a full disk writing evidence is one clear line, and no part of it is there."""
    noise = Random(7)
    results = [r.altered(raw={"noise": noise.randbytes(400).hex()}) for r in RUN.results]
    big = make_evidence(results, run="big", bound=RUN.bound, taken_from=0, taken_to=1)
    with pytest.raises(EvidenceWriteError, match="No space left on device") as caught:
        write_evidence(small_disk, big)
    assert "\n" not in str(caught.value)
    assert not list(small_disk.glob("evidence/*"))
