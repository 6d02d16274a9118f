"""Where a county's record is: in its folder, or on the server that county.yaml or the environment names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inventory.errors import InputProblemsError
from inventory.ledgerurl import check_ledger_url
from inventory.reader import load_county
from migration.ledger import LEDGER_FILE, URL_VARIABLE, Ledger, LedgerFormatError, TwoLedgersError, find_ledger
from tests.migration.ledger_homes import fill
from tests.migration.postgres_cluster import Cluster

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture
def county(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sample county, with nothing in the environment."""
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    folder = tmp_path / "county"
    shutil.copytree(TREE / "inventory" / "yichuan", folder, ignore=shutil.ignore_patterns(".lab", "*.sqlite*", "plan"))
    return folder


def name_server(county: Path, url: str) -> None:
    """Name a server in county.yaml."""
    with (county / "county.yaml").open("a") as stream:
        stream.write(f"ledger_url: {url}\n")


def test_the_environment_comes_first_then_the_county_then_its_folder(
    county: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word it is the file in the folder; county.yaml may name a server, and the environment another."""
    assert find_ledger(county) == county / LEDGER_FILE
    name_server(county, "postgresql://extranet@db.example/yichuan")
    assert find_ledger(county) == "postgresql://extranet@db.example/yichuan"
    assert load_county(county).division_code
    monkeypatch.setenv(URL_VARIABLE, "postgresql://me:hush@other.example/y")
    assert find_ledger(county) == "postgresql://me:hush@other.example/y"
    monkeypatch.setenv(URL_VARIABLE, "other.example")
    with pytest.raises(LedgerFormatError, match="expected a URL"):
        find_ledger(county)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hush@db.example/x",
        "postgresql://me@db.example/x?password=hush",
        "postgresql://me@db.example/x?passfile=/hush",
        "mysql://hush@db.example/x",
        "postgresql://hush@db.example/",
        "postgresql://[hush/x",
    ],
)
def test_a_password_in_a_file_is_refused_and_not_repeated(county: Path, url: str) -> None:
    """A URL with a password, or of no PostgreSQL database, is refused by the survey and the ledger; neither repeats it."""
    name_server(county, url)
    with pytest.raises(LedgerFormatError) as caught:
        find_ledger(county)
    assert "hush" not in str(caught.value)
    with pytest.raises(InputProblemsError) as problems:
        load_county(county)
    assert "ledger_url" in str(problems.value)
    assert "hush" not in str(problems.value)
    with pytest.raises(ValueError, match="expected"):
        check_ledger_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:abc@hush@127.0.0.1:1/db",
        "postgresql://bob:abc@hush:x@127.0.0.1:1/db",
        "postgresql://bob:abc@hush/x@127.0.0.1:1/db",
        "postgresql://bob:hush@127.0.0.1:port/db",
        "postgresql://bob:hush@127.0.0.1:70000/db",
        "postgresql://bob:hush@127.0.0.1:0/db",
        "postgresql://bob:hush@[::1:1/db",
        "hush hush://bob",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_and_not_repeated(
    county: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A raw @ in a password makes its tail a host, and a bad port none: one line says so, with nothing of the URL."""
    monkeypatch.setenv(URL_VARIABLE, url)
    with pytest.raises(LedgerFormatError, match="percent-encode") as caught:
        find_ledger(county)
    said = str(caught.value)
    assert said.startswith(f"{URL_VARIABLE}: expected a URL")
    assert "hush" not in said
    assert "\n" not in said
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:abc%40hush@db.example:5433/db",
        "postgresql://bob:a%40b@[fd00::1]/db",
        "sqlite:////srv/a@b/c@d.sqlite",
    ],
)
def test_an_encoded_password_is_taken_as_it_is(county: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Where the only raw @ stands before the host, or in a file's path, the URL is used."""
    monkeypatch.setenv(URL_VARIABLE, url)
    assert find_ledger(county) == url


def test_a_server_beside_a_file_is_refused(county: Path) -> None:
    """A server named where the folder holds a record would know of nothing: refused, not begun anew."""
    with Ledger.open(county, None, "field") as ledger:
        fill(ledger, 1)
    name_server(county, "postgresql://extranet@db.example/yichuan")
    with pytest.raises(TwoLedgersError, match=r"ledger\.sqlite: this county's record is here") as caught:
        find_ledger(county)
    assert caught.value.exit_code == 3


def test_another_file_beside_a_file_is_refused(county: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite URL of another file is refused where the folder holds a record; of that file itself it is that file."""
    path, other = county / LEDGER_FILE, tmp_path / "other.sqlite"
    monkeypatch.setenv(URL_VARIABLE, f"sqlite:///{county}/../county/{LEDGER_FILE}")
    assert find_ledger(county) == path
    monkeypatch.setenv(URL_VARIABLE, f"sqlite:///{other}")
    assert find_ledger(county) == f"sqlite:///{other}"
    with Ledger.open(county, None, "field") as ledger:
        fill(ledger, 1)
    for elsewhere in (f"sqlite:///{other}", "sqlite://", "sqlite:///ledger.sqlite", "postgres://db.example/y"):
        monkeypatch.setenv(URL_VARIABLE, elsewhere)
        with pytest.raises(TwoLedgersError, match=URL_VARIABLE):
            find_ledger(county)
    monkeypatch.setenv(URL_VARIABLE, f"sqlite:///{path}")
    assert find_ledger(county) == path


def test_commands_find_the_server(county: Path, cluster: Cluster) -> None:
    """status, ledger show, verify and checkpoint work on a server; before anything was done it reads as empty."""
    name = cluster.new_schema()
    name_server(county, f"'{cluster.url(name)}'")

    def extranet(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scripts.main", *words, "--county", str(county)]
        return subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False, env=dict(os.environ))

    assert extranet("status").returncode == 0
    empty = extranet("ledger", "verify")
    assert empty.returncode == 1
    assert "no event yet" in empty.stderr
    with Ledger.open(cluster.url(name), None, "field", folder=county) as ledger:
        fill(ledger, 3)
    assert "whole: 3 events" in extranet("ledger", "verify").stdout
    assert "note" in extranet("ledger", "show").stdout
    assert not (county / LEDGER_FILE).exists()
    cluster.execute(
        name,
        "ALTER TABLE events DISABLE TRIGGER events_no_delete",
        "DELETE FROM events WHERE seq = 3",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_delete",
    )
    cut = extranet("ledger", "verify")
    assert cut.returncode == 1
    assert "truncated" in cut.stdout
