"""Once county.yaml says who signs checkpoints, no command believes a record that they do not bear out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from inventory.errors import InputProblemsError
from inventory.reader import load_county
from migration.campaign import open_campaign, open_ledger
from migration.ledger import ACTOR_VARIABLE, LEDGER_FILE, Ledger, LedgerBrokenError, LedgerFormatError
from migration.ledger.checkpoints import sign_head
from migration.ledger.pinned import read_pin
from scripts.main import app
from tests.lab_fixture import copy_county
from tests.migration.ledger_homes import fill
from tests.migration.postgres_cluster import Cluster
from tests.migration.scene import StoppedClock

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
LINE = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
UNIT = "finance-man@chengguan"
KEPT = (LEDGER_FILE, "ledger.head", "checkpoints")
runner = CliRunner()


def call(county: Path, *words: str) -> tuple[int, str, str]:
    """Run a command on the county; return exit code, standard output and standard error."""
    done = runner.invoke(app, [*words, "--county", str(county)], env={"COLUMNS": "400"})
    return done.exit_code, done.stdout, done.stderr


def pin(county: Path, **settings: object) -> None:
    """Write settings into county.yaml."""
    with (county / "county.yaml").open("a", encoding="utf-8") as stream:
        stream.writelines(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())


def sign(county: Path, key: Ed25519PrivateKey = KEY) -> None:
    """Have a record's head signed."""
    found = read_pin(county)
    with Ledger.open(county, StoppedClock(), "field") as ledger:
        sign_head(ledger, key, county, StoppedClock(), copies=found.copies)


@pytest.fixture
def county(tmp_path: Path) -> Path:
    """A planned county that pins a key, keeps copies, and has 3 events, a checkpoint, 2 more events and a second checkpoint.

    `before` beside it holds what was there after the first checkpoint.
    """
    folder = copy_county(tmp_path / "county")
    assert call(folder, "plan", "addresses")[0] == 0
    (folder / "known_hosts").write_text("", "utf-8")
    access = {"target": "field", "name": "x", "port": 9, "known_hosts": "known_hosts", "addresses": {}}
    (folder / "access.yaml").write_text(json.dumps(access), "utf-8")
    copies = tmp_path / "copies"
    copies.mkdir()
    with Ledger.open(folder, StoppedClock(), "field") as ledger:
        fill(ledger, 3)
    pin(folder, checkpoint_keys=[LINE], checkpoint_copies=str(copies))
    sign(folder)
    before = tmp_path / "before"
    before.mkdir()
    for name in KEPT:
        take(folder / name, before / name)
    with Ledger.open(folder, StoppedClock(), "field") as ledger:
        fill(ledger, 2, first=4)
    sign(folder)
    return folder


def take(source: Path, to: Path) -> None:
    """Put a copy of a file or folder in the place of what is there."""
    remove(to)
    shutil.copytree(source, to) if source.is_dir() else shutil.copy(source, to)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def put_back_record(county: Path) -> None:
    """An older copy of the record and its head."""
    for name in (LEDGER_FILE, "ledger.head"):
        take(county.parent / "before" / name, county / name)


def put_back_folder(county: Path) -> None:
    """An older copy of everything in the county's folder: only the copies elsewhere tell."""
    for name in KEPT:
        take(county.parent / "before" / name, county / name)


def write_anew(county: Path) -> None:
    """Another story of the same length, with a head that fits."""
    for name in (LEDGER_FILE, "ledger.head"):
        remove(county / name)
    with Ledger.open(county, StoppedClock(), "field") as ledger:
        fill(ledger, 7, first=100)


def write_anew_and_sign(county: Path) -> None:
    """Another story, signed by whoever wrote it, and nothing of the first one left."""
    remove(county / "checkpoints")
    shutil.rmtree(county.parent / "copies")
    (county.parent / "copies").mkdir()
    write_anew(county)
    sign(county, OTHER)


def lose_checkpoints(county: Path) -> None:
    """No checkpoint anywhere."""
    remove(county / "checkpoints")
    for path in (county.parent / "copies").iterdir():
        path.unlink()


def begin_anew(county: Path) -> None:
    """Nothing of the record is left at all."""
    for name in KEPT:
        remove(county / name)


def unmount(county: Path) -> None:
    """The folder of copies is not there."""
    shutil.rmtree(county.parent / "copies")


TAMPERINGS: dict[Callable[[Path], None], str] = {
    put_back_record: "the tail is gone - expected event 6 (checkpoints/",
    put_back_folder: "the tail is gone - expected event 6 (",
    write_anew: "the tail was rewritten",
    write_anew_and_sign: "signed by SHA256:",
    lose_checkpoints: "there is none, so nobody has signed anything",
    unmount: "where copies are to be kept (checkpoint_copies)",
}

COMMANDS = (("gate", "explain", UNIT), ("status",), ("ledger", "show"), ("retire", UNIT, "--yes"))


def test_a_record_that_its_checkpoints_bear_out_is_believed(county: Path) -> None:
    """With the key pinned, plain `ledger verify` checks signatures, and the county is read and written as ever."""
    code, out, err = call(county, "ledger", "verify")
    assert (code, err) == (0, "")
    assert "whole: 7 events" in out
    assert "not checked" not in out
    assert call(county, "status")[0] == 0
    open_campaign(county).ledger.close()


@pytest.mark.parametrize(("tamper", "said"), TAMPERINGS.items(), ids=lambda v: getattr(v, "__name__", None))
def test_no_command_believes_another_record(
    county: Path, tamper: Callable[[Path], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put back, rewritten, begun anew, unsigned or signed by another: verify exits 1, and no gate is asked, in one line."""
    monkeypatch.setenv(ACTOR_VARIABLE, "the county's network engineer")
    tamper(county)
    code, out, err = call(county, "ledger", "verify")
    assert (code, err) == (1, "")
    assert said in out
    for words in COMMANDS:
        code, _, err = call(county, *words)
        assert code == 1, words
        assert said in err, words
        assert err.count("\n") == 1, err
    with pytest.raises(LedgerBrokenError):
        _ = open_campaign(county).ledger


def test_no_command_begins_anew_where_a_key_is_pinned(county: Path) -> None:
    """With nothing left of the record, the key in county.yaml still tells that there was one: refused."""
    begin_anew(county)
    for words in (*COMMANDS, ("ledger", "verify")):
        code, _, err = call(county, *words)
        assert code in {1, 3}, words
        assert "is gone, though county.yaml names who signed its checkpoints" in err or "the tail is gone" in err


def test_nobody_signs_what_is_not_borne_out(county: Path, tmp_path: Path) -> None:
    """`ledger checkpoint` refuses a record put back, and a key that is not pinned; the first checkpoint may be signed."""
    private = tmp_path / "key"

    def checkpoint(key: Ed25519PrivateKey) -> tuple[int, str]:
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return call(county, "ledger", "checkpoint", "--key", str(private))[::2]

    code, err = checkpoint(OTHER)
    assert code == 1
    assert "checkpoint_keys in county.yaml: expected a key of SHA256:" in err
    put_back_folder(county)
    assert checkpoint(KEY)[0] == 1
    begin_anew(county)
    lose_checkpoints(county)
    with Ledger.open(county, StoppedClock(), "field") as ledger:
        fill(ledger, 1)
    assert call(county, "ledger", "verify")[0] == 1
    assert checkpoint(KEY) == (0, "")
    text = (county / "county.yaml").read_text("utf-8")
    (county / "county.yaml").write_text(text[: text.index("checkpoint_keys")], "utf-8")
    said = call(county, "ledger", "checkpoint", "--key", str(private))[1]
    assert f'checkpoint_keys: ["{LINE}"]' in said  # what is to be written there, as it is to be written
    (county / "county.yaml").write_text(text, "utf-8")
    take(county / "checkpoints", county.parent / "copies")
    assert call(county, "ledger", "verify")[0] == 0
    assert len(list((county.parent / "copies").glob("*.json"))) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint_keys": ["ssh-rsa AAAA"]},
        {"checkpoint_keys": LINE},
        {"checkpoint_keys": [7]},
        {"checkpoint_keys": {"a": LINE}},
        {"checkpoint_copies": ["x"]},
        {"checkpoint_copies": ""},
    ],
)
def test_a_pin_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path, settings: dict[str, object]) -> None:
    """A key that is no Ed25519 key, or no list of keys, is refused by whatever opens the record, and by the survey."""
    folder = copy_county(tmp_path / "county")
    with Ledger.open(folder, StoppedClock(), "field") as ledger:
        fill(ledger, 1)
    pin(folder, **settings)
    with pytest.raises(LedgerFormatError, match="checkpoint_"):
        read_pin(folder)
    assert call(folder, "ledger", "verify")[0] == 2
    with pytest.raises(InputProblemsError):
        load_county(folder)


def test_a_machine_that_did_not_sign_asks_the_server(cluster: Cluster, tmp_path: Path) -> None:
    """Where machines share a server's record, the one without files takes the chain's checkpoints, signed by the key."""
    schema = cluster.new_schema()
    first, second = copy_county(tmp_path / "first"), copy_county(tmp_path / "second")
    for folder in (first, second):
        pin(folder, ledger_url=cluster.url(schema))
    with Ledger.open(cluster.url(schema), StoppedClock(), "field", folder=first) as ledger:
        fill(ledger, 2)
        pin(second, checkpoint_keys=[LINE])
        with pytest.raises(LedgerBrokenError, match="there is none"):
            open_ledger(second)
        sign_head(ledger, KEY, first, StoppedClock())
    open_ledger(second).close()
    assert call(second, "ledger", "verify")[0] == 0
