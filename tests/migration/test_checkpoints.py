"""Checkpoints, exports and upgrades: what makes the record worth something to somebody who trusts none of its keepers."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect

from inventory.errors import CheckFailedError
from inventory.keys import read_public_key
from migration.events import Head, digest_of
from migration.ledger import Ledger, LedgerBrokenError, LedgerFormatError, LedgerUnavailableError
from migration.ledger.chain import COLUMNS
from migration.ledger.checkpoints import Checkpoint, read_checkpoint, sign_head, verify_checkpoints
from migration.ledger.export import export_ledger
from migration.ledger.revisions import upgrade_ledger
from tests.migration.ledger_homes import TARGET, FileHome, Home, ServerHome, fill, opened, rehash
from tests.migration.postgres_cluster import Cluster
from tests.migration.scene import StoppedClock

TREE = Path(__file__).resolve().parents[2]
SCRIPT = TREE / "scripts" / "verify_ledger.py"
OLD_LEDGER = Path(__file__).with_name("ledger-revision-1.sql")
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


@pytest.fixture(params=["file", "server"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A place for a ledger, of each kind in turn."""
    if request.param == "file":
        return FileHome(tmp_path)
    cluster: Cluster = request.getfixturevalue("cluster")
    return ServerHome(tmp_path, cluster, cluster.new_schema())


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    """A ledger of five events, a checkpoint of them, and two more."""
    with opened(home) as made:
        fill(made, 5)
        sign_head(made, KEY, home.folder, StoppedClock())
        fill(made, 1, first=6)
        yield made


def kinds(ledger: Ledger, folder: Path, *known: Checkpoint, key: Ed25519PrivateKey = KEY) -> list[tuple[int, str]]:
    """Return what verifying with a key finds."""
    survey, _ = verify_checkpoints(ledger, folder, [key.public_key()], known=known)
    return [(b.seq, b.kind) for b in survey.breaks]


def only_checkpoint(folder: Path) -> Path:
    """Return the one checkpoint's file."""
    (found,) = (folder / "checkpoints").glob("*.json")
    return found


def test_a_checkpoint_is_kept_beside_the_record_and_in_it(ledger: Ledger, home: Home) -> None:
    """A checkpoint names head, count, time and target; it is a file, and the event after the head it speaks of."""
    kept = read_checkpoint(only_checkpoint(home.folder))
    events = ledger.events()
    assert (kept.seq, kept.hash, kept.count, kept.target) == (5, events[4].hash, 5, TARGET)
    assert events[5].kind == "checkpoint"
    assert events[5].body == {"checkpoint": kept.model_dump(mode="json")}
    assert kinds(ledger, home.folder) == []


def test_a_signature_of_somebody_else_is_found(ledger: Ledger, home: Home) -> None:
    """A checkpoint that the given key did not sign is a break; so is a record that nobody signed."""
    assert kinds(ledger, home.folder, key=OTHER) == [(5, "checkpoint"), (5, "checkpoint")]
    path = only_checkpoint(home.folder)
    forged = read_checkpoint(path).altered(at="2020-01-01T00:00:00.000000+00:00")
    path.write_text(forged.model_dump_json())
    assert (5, "checkpoint") in kinds(ledger, home.folder)


def test_a_record_that_nobody_signed_is_none_to_rely_on(tmp_path: Path) -> None:
    """With a key given, a record without any checkpoint is broken; an empty one is not signed at all."""
    with opened(FileHome(tmp_path)) as ledger:
        with pytest.raises(CheckFailedError, match="nothing to sign"):
            sign_head(ledger, KEY, tmp_path, StoppedClock())
        fill(ledger, 2)
        assert kinds(ledger, tmp_path) == [(0, "checkpoint")]


def test_a_broken_record_is_not_signed(ledger: Ledger, home: Home) -> None:
    """Nobody's name is put to a record that is not whole."""
    home.unguarded("UPDATE events SET actor = 'x' WHERE seq = 2")
    with pytest.raises(LedgerBrokenError):
        sign_head(ledger, KEY, home.folder, StoppedClock())
    assert only_checkpoint(home.folder).exists()


def rewrite_everything(home: Home, *, with_checkpoint: bool) -> None:
    """Make another whole record in the place of the first, its head and, by another key, its checkpoint with it."""
    home.unguarded("DELETE FROM events")
    (home.folder / "ledger.head").unlink()
    shutil.rmtree(home.folder / "checkpoints", ignore_errors=True)
    with opened(home) as ledger:
        for number in range(1, 6):
            ledger.append("note", f"another story {number}", {})
        if with_checkpoint:
            sign_head(ledger, OTHER, home.folder, StoppedClock())
        assert ledger.verify() == []


def test_a_wholly_rewritten_record_is_found(ledger: Ledger, home: Home) -> None:
    """Who rewrites everything has not the key: without a checkpoint it shows, with one of another key as well."""
    kept = read_checkpoint(only_checkpoint(home.folder))
    rewrite_everything(home, with_checkpoint=False)
    with opened(home, readonly=True) as again:
        assert kinds(again, home.folder) == [(0, "checkpoint")]
        assert sorted(kinds(again, home.folder, kept)) == [(5, "checkpoint"), (5, "forged")]
    rewrite_everything(home, with_checkpoint=True)
    with opened(home, readonly=True) as again:
        assert set(kinds(again, home.folder)) == {(5, "checkpoint")}


def test_a_checkpoint_put_back_beside_another_record_is_found(ledger: Ledger, home: Home) -> None:
    """A true checkpoint beside a rewritten record names the first event that it can tell to be another."""
    path = only_checkpoint(home.folder)
    text = path.read_text()
    rewrite_everything(home, with_checkpoint=False)
    path.parent.mkdir()
    path.write_text(text)
    with opened(home, readonly=True) as again:
        assert kinds(again, home.folder) == [(5, "forged")]


def test_a_checkpoint_taken_away_is_found(ledger: Ledger, home: Home) -> None:
    """Missing beside a file it is noticed by the event; missing in both places, by the copy that was kept elsewhere."""
    kept = read_checkpoint(only_checkpoint(home.folder))
    only_checkpoint(home.folder).unlink()
    assert kinds(ledger, home.folder) == ([(5, "checkpoint")] if isinstance(home, FileHome) else [])
    home.unguarded("DELETE FROM events WHERE seq > 5")
    (home.folder / "ledger.head").unlink()
    with opened(home) as again:
        again.accept_head()
        assert again.verify() == []
        assert kinds(again, home.folder, kept) == [(5, "checkpoint")]


def test_a_damaged_checkpoint_is_found(ledger: Ledger, home: Home) -> None:
    """A file that is no checkpoint any more is a break."""
    only_checkpoint(home.folder).write_text("{}")
    assert (0, "checkpoint") in kinds(ledger, home.folder)


# --- export, and verifying elsewhere ---


def verify_elsewhere(path: Path, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script as somebody else would: with Python alone, without ours in reach."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(path), *options]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, env=env)


@pytest.fixture(params=[Encoding.PEM, Encoding.OpenSSH])
def public_key(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A public key's file, of each kind in turn."""
    path = tmp_path / "key.pub"
    kind = PublicFormat.OpenSSH if request.param is Encoding.OpenSSH else PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(KEY.public_key().public_bytes(request.param, kind))
    read_public_key(path)
    return path


def test_an_export_is_verified_elsewhere(ledger: Ledger, home: Home, tmp_path: Path, public_key: Path) -> None:
    """What is exported is whole by a script that shares nothing with us, and its signatures are checked by openssl."""
    ledger.append("note", 'a ","key":"x" within', {"quote": '","key":"', "n": 1.5, "x": None} | {"名": ["é\n", {}]})
    with ledger.hold("a command"):
        fill(ledger, 1, first=20)
    out = tmp_path / "out.jsonl"
    head, checkpoints = export_ledger(ledger, out, home.folder)
    assert (head, checkpoints) == (ledger.head(), 1)
    done = verify_elsewhere(out, "--public-key", str(public_key), "--known", f"{head.seq}:{head.hash}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"whole: {head.seq} events, head {head.hash}, 2 checkpoints" in done.stdout
    assert "2 signatures checked" in done.stdout


def test_without_openssl_signatures_are_not_passed_off_as_checked(
    ledger: Ledger, home: Home, tmp_path: Path, public_key: Path
) -> None:
    """Asked for signatures where there is no openssl, the script says that they were not checked, and exits 4."""
    out = tmp_path / "out.jsonl"
    export_ledger(ledger, out, home.folder)
    done = verify_elsewhere(out, "--public-key", str(public_key), env={"PATH": str(tmp_path)})
    assert done.returncode == 4
    assert "NOT checked" in done.stdout
    assert verify_elsewhere(out, env={"PATH": str(tmp_path)}).returncode == 0


def test_a_broken_record_is_not_exported(ledger: Ledger, home: Home, tmp_path: Path) -> None:
    """An export is whole or is not there."""
    home.unguarded("UPDATE events SET actor = 'x' WHERE seq = 2")
    with pytest.raises(LedgerBrokenError):
        export_ledger(ledger, tmp_path / "out.jsonl", home.folder)
    assert not list(tmp_path.glob("*out.jsonl*"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of eight events and a checkpoint."""
    folder = tmp_path_factory.mktemp("exported")
    with Ledger.open(folder, StoppedClock(), TARGET) as ledger:
        fill(ledger, 4)
        sign_head(ledger, KEY, folder, StoppedClock())
        with ledger.hold("a command"):
            fill(ledger, 3, first=5)
        export_ledger(ledger, folder / "out.jsonl", folder)
    (folder / "key.pub").write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return folder / "out.jsonl"


Edit = Callable[[list[str]], list[str]]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """One thing done to the lines of an export."""
    what = draw(st.sampled_from(["drop", "swap", "double", "character", "cut"]))
    at, other, place = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 400))
    character = draw(st.sampled_from('0a{}",:é '))

    def edit(lines: list[str]) -> list[str]:
        lines = list(lines)
        if what == "drop":
            del lines[at]
        elif what == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        elif what == "double":
            lines.insert(other, lines[at])
        elif what == "cut":
            del lines[at + 1 :]
        else:
            line = lines[at]
            place_there = place % len(line)
            lines[at] = line[:place_there] + character + line[place_there + 1 :]
        return lines

    return edit


@given(edit=edits())
@settings(max_examples=40)
def test_any_edit_of_an_export_is_found(exported: Path, edit: Edit) -> None:
    """A line dropped, moved, doubled or changed anywhere in an export is found by the script."""
    lines = exported.read_text().splitlines()
    changed = edit(lines)
    path = exported.with_name("changed.jsonl")
    path.write_text("\n".join(changed) + "\n")
    done = verify_elsewhere(path, "--public-key", str(exported.with_name("key.pub")))
    assert done.returncode == (0 if changed == lines else 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def forge(exported: Path, **changes: object) -> str:
    """Return the export with its last event changed and hashed anew, and the end made to fit."""
    lines = exported.read_text().splitlines()
    at = max(n for n, line in enumerate(lines) if '"prev":' in line)
    event = json.loads(lines[at]) | changes
    bare = {k: v for k, v in event.items() if k != "hash"}
    try:
        event["hash"] = digest_of(bare)
    except ValueError:  # what has no canonical JSON has no hash
        event["hash"] = "0" * 64
    lines[at] = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii="ud800" in str(changes))
    lines[-1] = json.dumps({"head": {"seq": event["seq"], "hash": event["hash"]}})
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"body": {"n": float("nan")}},
        {"body": {"text": "\ud800"}},
        {"body": []},
        {"kind": "checkpoint", "body": [{}]},
        {"kind": ["checkpoint"]},
        {"key": 5},
        {"unit": {}},
        {"at": None},
        {"prev": None},
        {"token": "9"},
        {"token": True},
        {"seq": 8.0},
        {"\ud800": 1},
        {"\nwhole: 8 events": 1},
    ],
)
def test_an_event_of_other_types_is_altered(exported: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    """A field of another type, or what has no canonical JSON, is named with its line, whatever hash it comes with."""
    path = tmp_path / "changed.jsonl"
    path.write_text(forge(exported))
    assert verify_elsewhere(path).returncode == 0
    path.write_text(forge(exported, **changes))
    done = verify_elsewhere(path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    assert "line 9: altered" in done.stdout or "line 9: expected the fields of an event" in done.stdout
    assert all(line.startswith("broken: ") for line in done.stdout.splitlines())


def test_a_line_that_cannot_be_decoded_is_altered(exported: Path, tmp_path: Path) -> None:
    """A line nested without end, or with a number without end, is altered; a first line like that is no export."""
    path = tmp_path / "changed.jsonl"
    lines = exported.read_text().splitlines()
    for strange in ("[" * 100_000, '{"a":' * 100_000, f'{{"head":{"9" * 5_000}}}'):
        path.write_text("\n".join([*lines[:3], strange, *lines[3:]]) + "\n")
        done = verify_elsewhere(path)
        assert (done.returncode, done.stderr) == (1, "")
        assert "line 4: altered" in done.stdout
        path.write_text(strange)
        assert verify_elsewhere(path).returncode == 2


def test_a_checkpoint_that_cannot_be_signed_is_not(exported: Path, tmp_path: Path) -> None:
    """A checkpoint with half a character in it has no canonical JSON, so its signature is nobody's."""
    lines = exported.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith('{"checkpoint":'))
    checkpoint = json.loads(lines[at])["checkpoint"] | {"target": "\ud800"}
    lines[at] = json.dumps({"checkpoint": checkpoint})
    (tmp_path / "changed.jsonl").write_text("\n".join(lines) + "\n")
    done = verify_elsewhere(tmp_path / "changed.jsonl", "--public-key", str(exported.with_name("key.pub")))
    assert (done.returncode, done.stderr) == (1, "")
    assert "the signature is not that of" in done.stdout


@pytest.mark.parametrize("seq", ["²", "٣", "9" * 5_000, "-1", ""])
def test_a_number_in_other_digits_is_bad_usage(exported: Path, tmp_path: Path, seq: str) -> None:
    """A known head's number is written in the digits 0 to 9, and no longer than numbers of events are."""
    done = verify_elsewhere(exported, "--known", f"{seq}:{'0' * 64}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_forged_export_is_found_by_what_is_known_elsewhere(exported: Path, tmp_path: Path) -> None:
    """A head or a checkpoint kept elsewhere finds an export of another story; files that are none are bad input."""
    with Ledger.open(tmp_path, StoppedClock(), TARGET) as ledger:
        fill(ledger, 20)
        export_ledger(ledger, tmp_path / "out.jsonl", tmp_path)
    kept = only_checkpoint(exported.parent)
    done = verify_elsewhere(tmp_path / "out.jsonl", "--known", str(kept))
    assert done.returncode == 1
    assert "this checkpoint is missing" in done.stdout
    assert verify_elsewhere(tmp_path / "out.jsonl", "--known", f"5:{'0' * 64}").returncode == 1
    assert verify_elsewhere(tmp_path / "out.jsonl", "--known", "nonsense").returncode == 2
    assert verify_elsewhere(kept).returncode == 2
    assert verify_elsewhere(tmp_path / "none").returncode == 2
    assert verify_elsewhere(tmp_path / "out.jsonl", "--public-key", str(kept)).returncode == 2


# --- revisions ---


@pytest.fixture
def old_folder(tmp_path: Path) -> Path:
    """A folder with a ledger as the first version made it."""
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.executescript(OLD_LEDGER.read_text("utf-8"))
    head = '{"seq":3,"hash":"70b4855721011584148f4846eb71d01f39f01d63972b7b2480819c2586ca1ff2"}\n'
    (tmp_path / "ledger.head").write_text(head)
    return tmp_path


def dump(path: Path) -> list[str]:
    """Return everything that a file holds."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_an_older_ledger_is_not_upgraded_by_the_way(old_folder: Path) -> None:
    """Opened for reading or writing, an older ledger is refused with what to do, and stays as it is."""
    before = dump(old_folder / "ledger.sqlite")
    for readonly in (True, False):
        with pytest.raises(LedgerFormatError, match=r"expected 2, found 1; run 'extranet ledger upgrade'"):
            Ledger.open(old_folder, StoppedClock(), "lab t", readonly=readonly)
    assert dump(old_folder / "ledger.sqlite") == before


def test_an_upgrade_keeps_every_event_and_a_backup(old_folder: Path) -> None:
    """After an upgrade every event and the head are as before, what came after works, and the backup is the old file."""
    before = dump(old_folder / "ledger.sqlite")
    done = upgrade_ledger(old_folder / "ledger.sqlite", old_folder)
    assert (done.was, done.to) == (1, 2)
    assert dump(Path(done.backup)) == before
    with Ledger.open(old_folder, StoppedClock(), "lab t") as ledger:
        assert ledger.verify() == []
        assert ledger.head() == Head(seq=3, hash="70b4855721011584148f4846eb71d01f39f01d63972b7b2480819c2586ca1ff2")
        assert ledger.events()[2].body["名"] == "伊川"
        with ledger.hold("a command"):
            assert ledger.append("note", "after", {}).token == 1
        assert ledger.verify() == []
    again = upgrade_ledger(old_folder / "ledger.sqlite", old_folder)
    assert (again.was, again.backup) == (2, "")


def test_an_upgraded_ledger_is_like_a_new_one(old_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tables and guard of an upgraded ledger are those of one made today."""
    upgrade_ledger(old_folder / "ledger.sqlite", old_folder)
    new = tmp_path_factory.mktemp("new")
    with Ledger.open(new, StoppedClock(), TARGET) as made, Ledger.open(old_folder, StoppedClock(), TARGET) as old:
        assert made.database is not None
        assert old.database is not None
        for table in ("events", "leases", "ledger_format", "alembic_version"):
            shapes = [
                [(c["name"], str(c["type"]), c["nullable"]) for c in inspect(one.database.engine).get_columns(table)]
                for one in (made, old)
                if one.database
            ]
            assert shapes[0] == shapes[1], table
        assert {c["name"] for c in inspect(made.database.engine).get_columns("events")} == set(COLUMNS)


def test_a_broken_ledger_is_not_upgraded(old_folder: Path) -> None:
    """An older ledger that is not whole stays as it is."""
    FileHome(old_folder).unguarded("UPDATE events SET actor = 'x' WHERE seq = 2")
    before = dump(old_folder / "ledger.sqlite")
    with pytest.raises(LedgerBrokenError, match="event 2: altered"):
        upgrade_ledger(old_folder / "ledger.sqlite", old_folder)
    assert dump(old_folder / "ledger.sqlite") == before
    assert not list(old_folder.glob("*.before-2"))


def test_an_upgrade_that_breaks_off_changes_nothing(old_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade is one piece: when it fails half-way the file is as it was, and the next one works."""
    import migration.ledger.revisions as module

    before = dump(old_folder / "ledger.sqlite")

    def fail(connection: object, revision: int) -> None:
        real(connection, revision)  # type: ignore[arg-type]
        raise OSError(28, os.strerror(28))

    real = module.take_to_newest
    monkeypatch.setattr(module, "take_to_newest", fail)
    with pytest.raises(LedgerUnavailableError, match="No space"):
        upgrade_ledger(old_folder / "ledger.sqlite", old_folder)
    assert dump(old_folder / "ledger.sqlite") == before
    monkeypatch.setattr(module, "take_to_newest", real)
    assert upgrade_ledger(old_folder / "ledger.sqlite", old_folder).was == 1


# --- on the command line ---


def extranet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `extranet ledger ...` in a county's folder."""
    command = [sys.executable, "-m", "scripts.main", "ledger", *words, "--county", str(folder)]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)


def test_the_commands_do_what_they_say(tmp_path: Path) -> None:
    """checkpoint, verify, export and upgrade work as a person types them, with the exit codes they promise."""
    folder = tmp_path / "county"
    shutil.copytree(TREE / "inventory" / "yichuan", folder, ignore=shutil.ignore_patterns(".lab", "*.sqlite*", "plan"))
    private, public = tmp_path / "key", tmp_path / "key.pub"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert extranet(folder, "checkpoint", "--key", str(private)).returncode == 1
    with Ledger.open(folder, StoppedClock(), "field") as ledger:
        fill(ledger, 3)
    assert extranet(folder, "verify", "--public-key", str(public)).returncode == 1
    assert extranet(folder, "checkpoint", "--key", str(private)).returncode == 0
    shown = extranet(folder, "verify", "--public-key", str(public), "--json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["whole"], found["events"], found["checkpoints"]) == (True, 4, 1)
    kept = shutil.copy(only_checkpoint(folder), tmp_path / "kept.json")
    assert extranet(folder, "verify", "--known", str(kept), "--known", f"4:{found['head']}").returncode == 0
    out = tmp_path / "out.jsonl"
    assert extranet(folder, "export", "--out", str(out)).returncode == 0
    assert verify_elsewhere(out, "--public-key", str(public), "--known", str(kept)).returncode == 0
    assert "nothing to do" in extranet(folder, "upgrade").stdout
    rehash(FileHome(folder), 4, note="x")
    broken = extranet(folder, "verify", "--known", f"4:{found['head']}")
    assert broken.returncode == 1
    assert "event 4" in broken.stdout
    for nonsense in ("nonsense", f"²:{'0' * 64}", f"{'9' * 30}:{'0' * 64}", f"4:{'x' * 64}"):
        refused = extranet(folder, "verify", "--known", nonsense)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert refused.stderr.count("\n") == 1
