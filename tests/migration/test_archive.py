"""The archive: configurations kept by digest, and the gates that ask for them."""

from __future__ import annotations

import hashlib
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import ExtranetError
from migration.archive import (
    ArchiveWriteError,
    archive_path,
    collect_archives,
    judge_archives,
    read_config,
    write_config,
)
from migration.dossier import make_dossier
from migration.events import Kind
from migration.gates import judge_retirement
from migration.units import UnitState
from tests.migration.scene import Story, archive_all, build_county, measure, situation_of

COUNTY = build_county()
TEXT = "hostname fin-ta\n!\nenable password s3cret\n"


def note(story: Story, unit: str, configs: dict[str, str], state: UnitState = UnitState.PROVISIONED) -> None:
    """Record an archive."""
    dossier = make_dossier(COUNTY, COUNTY.unit_by_id[unit], None).model_dump(mode="json")
    body: dict[str, object] = {"note": "archive", "state": state.value, "configs": configs, "dossier": dossier}
    story.tell(Kind.NOTE, f"archive/{len(story.events)}", body, unit)


def test_a_configuration_is_kept_by_its_digest_for_its_owner_alone(tmp_path: Path) -> None:
    """What is read back is what was written; file and folder are closed to others; a second time changes nothing."""
    digest = write_config(tmp_path, TEXT)
    path = archive_path(tmp_path, digest)
    assert digest == hashlib.sha256(TEXT.encode()).hexdigest()
    assert read_config(tmp_path, digest) == TEXT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.stat().st_mtime_ns
    assert write_config(tmp_path, TEXT) == digest
    assert path.stat().st_mtime_ns == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_changed_file_is_no_archive_and_is_mended(tmp_path: Path) -> None:
    """A file that is not what its name says is refused, counts as lost, and is written anew by the next archiving."""
    digest = write_config(tmp_path, TEXT)
    story = Story()
    note(story, "fin@ta", {"fin-ta": digest})
    assert collect_archives(tmp_path, story.events)["fin@ta"][0].whole
    archive_path(tmp_path, digest).write_text("hostname other\n", "utf-8")
    with pytest.raises(ExtranetError, match="was changed"):
        read_config(tmp_path, digest)
    assert "was changed" in collect_archives(tmp_path, story.events)["fin@ta"][0].lost["fin-ta"]
    write_config(tmp_path, TEXT)
    assert collect_archives(tmp_path, story.events)["fin@ta"][0].whole
    archive_path(tmp_path, digest).unlink()
    assert "is missing" in collect_archives(tmp_path, story.events)["fin@ta"][0].lost["fin-ta"]


@pytest.mark.parametrize("configs", [{"fin-ta": "../../../etc/passwd"}, {"fin-ta": "x" * 64}, {"fin-ta": ""}])
def test_a_digest_that_is_none_is_no_file(tmp_path: Path, configs: dict[str, str]) -> None:
    """A name in the ledger that is not a digest is never opened."""
    story = Story()
    note(story, "fin@ta", configs)
    assert "is not a digest" in collect_archives(tmp_path, story.events)["fin@ta"][0].lost["fin-ta"]


def test_a_note_that_cannot_be_read_archives_nothing(tmp_path: Path) -> None:
    """A note without its fields counts for nothing, and says so."""
    story = Story()
    story.tell(Kind.NOTE, "n", {"note": "archive", "configs": {"fin-ta": "0" * 64}}, "fin@ta")
    found = collect_archives(tmp_path, story.events)["fin@ta"][0]
    assert not found.whole
    assert "cannot be read" in found.problem


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
def test_a_full_disk_leaves_no_half_configuration(small_disk: Path) -> None:
    """On a full disk archiving is one clear line with exit 4, and no part of the file is there."""
    with pytest.raises(ArchiveWriteError, match="No space left on device") as caught:
        write_config(small_disk, "ip route 10.0.0.0/8 Null0\n" * 1000)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    assert not list(small_disk.glob("archive/*"))
    assert not list(small_disk.glob("archive/.*"))


@pytest.mark.parametrize(("stage", "state"), [("shut", UnitState.DRAINED), ("remove", UnitState.SHUT)])
def test_without_an_archive_no_line_is_shut_or_removed(stage: str, state: UnitState) -> None:
    """Where all else is proven, any router that is not archived, or whose file is lost, refuses with what to do."""
    story = Story().go("fin@county", "fin@tb", to=UnitState.CUT_OVER).wait_s(4000).go("fin@tb", to=state).wait_s(4000)
    fresh = measure(COUNTY, story.at, withheld=("fin@tb",))
    scene = situation_of(COUNTY, story.wait_s(20), fresh)
    assert judge_retirement("fin@tb", stage, scene).allowed
    verdict = judge_retirement("fin@tb", stage, replace(scene, archives={}))
    assert [r.why.partition(",")[0] for r in verdict.reasons] == [
        "the configuration of fin-county is not archived",
        "the configuration of fin-tb is not archived",
    ]
    assert all("extranet archive take fin@tb --yes" in r.why for r in verdict.reasons)
    whole = scene.archives["fin@tb"][0]
    lost = {"fin@tb": (whole, whole.altered(lost={"fin-tb": "archive/x.cfg is missing"}))}
    verdict = judge_retirement("fin@tb", stage, replace(scene, archives=lost))
    why = "the archived configuration of fin-tb is lost: archive/x.cfg is missing"
    assert [r.why for r in verdict.reasons] == [f"{why}; 'extranet archive take fin@tb --yes' reads and keeps it"]


@given(data=st.data())
def test_less_archive_never_opens(data: st.DataObject) -> None:
    """Taking any archive, router or whole file away never takes a reason away."""
    unit = data.draw(st.sampled_from([u for u in COUNTY.units if u.network == "fin"]))
    full = archive_all(COUNTY)
    archive = full[unit.id][0]
    gone = data.draw(st.sets(st.sampled_from(sorted(archive.configs))))
    lost = data.draw(st.sets(st.sampled_from(sorted(archive.configs))))
    less = archive.altered(
        configs={d: sha for d, sha in archive.configs.items() if d not in gone},
        lost=dict.fromkeys(sorted(lost - gone), "is missing"),
    )
    assert judge_archives(COUNTY, unit, full) == []
    assert len(judge_archives(COUNTY, unit, {unit.id: (less,)})) == len(gone | lost)
    assert len(judge_archives(COUNTY, unit, {})) == len(archive.configs)
