"""Each way to tamper with a record, done to a real one, and what is printed about it: the table in docs/ledger.md.

`EXTRANET_UPDATE_GOLDEN=1` writes the table anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from migration.events import Head, canonical_json
from migration.ledger import ACTOR_VARIABLE, HEAD_FILE, URL_VARIABLE
from migration.ledger.checkpoints import read_checkpoint, sign_head
from migration.ledger.export import FORMAT
from migration.ledger.headfile import HeadFile
from scripts import verify_ledger
from scripts.main import app
from tests.migration.ledger_homes import FileHome, Home, ServerHome, fill, opened, rehash
from tests.migration.postgres_cluster import Cluster
from tests.migration.scene import StoppedClock

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "ledger.md"
MARKS = ("<!-- tamperings -->\n", "<!-- /tamperings -->\n")
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
LINE = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
Tamper = Callable[[Home], None]


def tell(home: Home) -> None:
    """Three events, two commands under a lease of their own, a checkpoint of the five, and two more events."""
    with opened(home, target="field") as ledger:
        fill(ledger, 3)
        for number in (4, 5):
            with ledger.hold(f"command {number}"):
                fill(ledger, 1, first=number)
        sign_head(ledger, KEY, home.folder, StoppedClock())
        fill(ledger, 2, first=7)
    (home.folder / "county.yaml").write_text(f"checkpoint_keys: [{LINE}]\n", "utf-8")
    shutil.copytree(home.folder / "checkpoints", home.folder / "kept elsewhere")


def run(*statements: str) -> Tamper:
    """Tamper by SQL, as the database's owner."""
    return lambda home: home.unguarded(*statements)


def fit_head(home: Home) -> None:
    """Make `ledger.head` fit whatever is there."""
    last = home.rows()[-1]
    HeadFile(home.folder / HEAD_FILE, required=True).make(Head(seq=last["seq"], hash=last["hash"]))


def forge_token(home: Home) -> None:
    """Have an event come from a lease that had been followed by another, with all hashes and the head to match."""
    home.unguarded("UPDATE events SET token = 1 WHERE seq = 7")
    rehash(home, 7, note="of lease 1", onwards=True)
    fit_head(home)


def forge_grant(home: Home) -> None:
    """Have an event come from a lease that was never granted, with all hashes and the head to match."""
    home.unguarded("UPDATE events SET token = 9 WHERE seq = 7")
    rehash(home, 7, note="of lease 9", onwards=True)
    fit_head(home)


def rewrite(home: Home) -> None:
    """Rewrite all from the first event on, with all hashes and the head to match."""
    rehash(home, 1, note="another story", onwards=True)
    fit_head(home)


def rewrite_unsigned(home: Home) -> None:
    """Rewrite all, and leave no checkpoint in it or beside it."""
    lose_checkpoint(home)
    rewrite(home)


def rewrite_signed(home: Home) -> None:
    """Rewrite all, and sign it with another key."""
    rewrite_unsigned(home)
    with opened(home, target="field") as ledger:
        sign_head(ledger, OTHER, home.folder, StoppedClock())


def put_back(home: Home) -> None:
    """Put back the record and the head that were there after the third event."""
    home.unguarded("DELETE FROM events WHERE seq > 3")
    fit_head(home)


def lose_checkpoint(home: Home) -> None:
    """Take the checkpoint away, beside the record and in it, with a head to match."""
    shutil.rmtree(home.folder / "checkpoints")
    home.unguarded("DELETE FROM events WHERE seq > 5")
    fit_head(home)


def forge_checkpoint(home: Home) -> None:
    """Let the checkpoint's file say that it was signed later."""
    (path,) = (home.folder / "checkpoints").glob("*.json")
    forged = read_checkpoint(path).altered(at="2027-12-31T00:00:00.000000+00:00")
    path.write_text(canonical_json(forged.model_dump(mode="json")), "utf-8")


COPY = "SELECT {}, at, actor, target, kind, key || '{}', unit, body, prev, {}, token FROM events WHERE seq = 2"
TAMPERINGS: dict[str, Tamper] = {
    "the content of an event altered": run("UPDATE events SET body = '{\"number\":20}' WHERE seq = 2"),
    "its time altered": run("UPDATE events SET at = '2027-08-31T08:00:00.000000+00:00' WHERE seq = 2"),
    "who did it altered": run("UPDATE events SET actor = 'somebody else' WHERE seq = 2"),
    "an event removed from the middle": run("DELETE FROM events WHERE seq = 3"),
    "the last event removed": run("DELETE FROM events WHERE seq = 8"),
    "two events exchanged": run(
        "UPDATE events SET seq = 99 WHERE seq = 2",
        "UPDATE events SET seq = 2 WHERE seq = 3",
        "UPDATE events SET seq = 3 WHERE seq = 99",
    ),
    "an event copied to the end": run("INSERT INTO events " + COPY.format(9, " again", f"'{'0' * 64}'")),
    "an event forged, its own hash made to fit": lambda home: rehash(home, 2, note="forged"),
    "an event forged, all later hashes made to fit": lambda home: rehash(home, 7, note="forged", onwards=True),
    "an event forged under an older lease's token, hashes and head made to fit": forge_token,
    "an event forged under a lease that was never granted, hashes and head made to fit": forge_grant,
    "all leases removed": run("DELETE FROM leases"),
    "the newest lease removed": run("DELETE FROM leases WHERE token = 2"),
    "an older lease removed": run("DELETE FROM leases WHERE token = 1"),
    "a lease inserted far above the newest": run("INSERT INTO leases VALUES (99999, '{}', 0, 0, 0)"),
    "all rewritten from the first event on, hashes and head made to fit": rewrite,
    "the same, with no checkpoint left anywhere": rewrite_unsigned,
    "the same, signed by another key": rewrite_signed,
    "an older copy of the record and its head put back": put_back,
    "the checkpoint removed, beside the record and in it": lose_checkpoint,
    "the checkpoint's file forged": forge_checkpoint,
}


def verify_here(home: Home) -> list[str]:
    """Return what `extranet ledger verify` prints about breaks."""
    env = {"COLUMNS": "500", URL_VARIABLE: home.place if isinstance(home.place, str) else None}
    done = CliRunner().invoke(app, ["ledger", "verify", "--county", str(home.folder)], env=env)
    found = [line for line in done.stdout.splitlines() if line.startswith("broken")]
    assert done.exit_code == (1 if found else 0), done.output
    return found


def verify_elsewhere(home: Home, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what the stand-alone script prints about an export that was made of the record as it is, head and all."""
    lines: list[object] = [{"format": FORMAT}]
    lines += [
        {k: v for k, v in {**row, "body": json.loads(row["body"])}.items() if k != "token" or v is not None}
        for row in home.rows()
    ]
    lines += [{"checkpoint": json.loads(p.read_text())} for p in (home.folder / "checkpoints").glob("*.json")]
    last = home.rows()[-1]
    lines.append({"head": {"seq": last["seq"], "hash": last["hash"]}})
    export, key = home.folder / "export.jsonl", home.folder / "chief.pub"
    export.write_text("".join(canonical_json(line) + "\n" for line in lines), "utf-8")
    key.write_text(LINE, "ascii")
    (kept,) = (home.folder / "kept elsewhere").glob("*.json")
    capsys.readouterr()
    code = verify_ledger.main([str(export), "--public-key", str(key), "--known", str(kept)])
    said = capsys.readouterr().out.replace(str(kept), "copy.json").splitlines()
    found = [line for line in said if line.startswith("broken") and not line.endswith(" in all")]
    assert code == (1 if found else 0), said
    return found


def read_table() -> str:
    """Return what stands between the marks."""
    return DOCUMENT.read_text("utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]


def write_table(rows: list[tuple[str, str, str]]) -> str:
    """Return the table."""
    head = "| tampering | `extranet ledger verify` | `verify_ledger.py` |\n| --- | --- | --- |\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


@pytest.mark.parametrize("kind", ["file", "server"])
def test_each_tampering_is_found_and_the_table_says_how(
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Done to a file or to a server's record, each tampering is found here and elsewhere, in the words of the table."""
    monkeypatch.setenv(ACTOR_VARIABLE, "网络科长")
    cluster: Cluster | None = request.getfixturevalue("cluster") if kind == "server" else None
    rows = []
    for number, (name, tamper) in enumerate(TAMPERINGS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        home: Home = ServerHome(folder, cluster, cluster.new_schema()) if cluster else FileHome(folder)
        tell(home)
        assert verify_here(home) == [], name
        assert verify_elsewhere(home, capsys) == [], name
        tamper(home)
        here, elsewhere = verify_here(home), verify_elsewhere(home, capsys)
        assert here, name
        assert elsewhere or name in UNSEEN_ELSEWHERE, name
        rows.append((name, here[0], elsewhere[0] if elsewhere else UNSEEN_ELSEWHERE[name]))
    table = write_table(rows)
    if kind == "file" and os.environ.get("EXTRANET_UPDATE_GOLDEN"):
        DOCUMENT.write_text(DOCUMENT.read_text("utf-8").replace(read_table(), table), "utf-8")
    assert table == read_table()


NO_LEASES = "(an export holds no leases)"
UNSEEN_ELSEWHERE: dict[str, str] = {
    "an event forged under a lease that was never granted, hashes and head made to fit": NO_LEASES,
    "all leases removed": NO_LEASES,
    "the newest lease removed": NO_LEASES,
    "an older lease removed": NO_LEASES,
    "a lease inserted far above the newest": NO_LEASES,
    "the last event removed": "(the export is whole; with `--known` of that event: it is gone)",
    "an event forged, all later hashes made to fit": "(after the last checkpoint: only a head kept elsewhere tells)",
}
