"""`plan check`: independent checks and a review, right exit codes, signatures that hold."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import PublicFormat as Public
from typer.testing import CliRunner

from addressing.divisions import Divisions
from addressing.hierarchy import plan_divisions
from addressing.hierarchyfile import certificate_path, write_hierarchy
from addressing.plan import make_plan
from addressing.planfile import write_plan
from addressing.policy import LaidField, Layout, PlanPolicy
from inventory.reader import load_county
from inventory.topology import build_topology
from scripts.commands import plan_check

SAMPLE = Path(__file__).resolve().parents[2] / "inventory" / "yichuan"
COUNTY = load_county(SAMPLE)
PLAN = make_plan(COUNTY, build_topology(COUNTY))
CODES = ("410329000000", "410329001000", "410329001200", "410329001201")

app = typer.Typer()
app.command("check")(plan_check.check)
app.command("other")(plan_check.check)
runner = CliRunner()


def call(*arguments: object) -> tuple[int, str, str]:
    """Run the command; return exit code, standard output and standard error."""
    result = runner.invoke(app, ["check", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def county(tmp_path: Path) -> Path:
    """Return the sample county's plan."""
    path = tmp_path / "addresses.json"
    write_plan(PLAN, path)
    return path


@pytest.fixture
def hierarchy(tmp_path: Path) -> Path:
    """Return a small hierarchy's plan with its certificate."""
    divisions = Divisions(
        list(CODES), list(CODES), np.array([3, 4, 5, 5], dtype=np.int8), np.array([-1, 0, 1, 1], dtype=np.int32)
    )
    policy = PlanPolicy.model_validate({"pools": ["3fff:500::/24"]})
    fields = (
        LaidField(level=4, name="town", width=8, length=32, order="centre", reserved=(0,)),
        LaidField(level=5, name="village", width=16, length=48, order="centre", reserved=(0,)),
    )
    path = tmp_path / "plan.csv"
    plan = plan_divisions(divisions, policy, Layout(pools=policy.pools, fields=fields, root_level=3))
    write_hierarchy(plan, path, sign_off=lambda _, certificate: certificate)
    return path


def test_good_plans_of_both_kinds(county: Path, hierarchy: Path) -> None:
    """Good plans exit 0, alone and together, and every check is shown."""
    code, out, _ = call(county, hierarchy)
    assert code == 0
    assert "FAIL" not in out
    assert "pass recomputed" in out
    assert "pass across" in out
    code, out, _ = call(county, hierarchy, "--json")
    body = json.loads(out)
    assert code == 0
    assert body["ok"]
    assert [p["kind"] for p in body["plans"]] == ["county", "hierarchy"]
    assert all(c["ok"] for p in body["plans"] for c in p["checks"])


def test_a_failed_check_is_exit_1(hierarchy: Path) -> None:
    """A damaged plan exits 1 and says what is wrong, for people and machines."""
    hierarchy.write_text(hierarchy.read_text("utf-8").replace("410329001201", "410329001202"), "utf-8")
    code, out, _ = call(hierarchy)
    assert code == 1
    assert "FAIL certificate" in out
    code, out, _ = call(hierarchy, "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


def test_rows_too_damaged_to_review(hierarchy: Path) -> None:
    """Where rows cannot be read at all the checks say so, and there is no second complaint."""
    hierarchy.write_text(hierarchy.read_text("utf-8").replace("::/48", "::/x"), "utf-8")
    code, out, err = call(hierarchy)
    assert code == 1
    assert "FAIL text" in out
    assert "problem" not in err


def test_production_refuses_documentation(county: Path) -> None:
    """With --production the example's documentation prefix is an error: exit 1."""
    assert call(county)[0] == 0
    code, out, _ = call(county, "--production")
    assert code == 1
    assert "error: pool 3fff:329::/36" in out


def test_used_addresses(county: Path, tmp_path: Path) -> None:
    """Addresses seen at work that nobody was given are errors; a text without any is bad input."""
    used = tmp_path / "seen.txt"
    used.write_text("neighbour 3FFF:329:FFF::1 dev wan1\n", "utf-8")
    code, out, _ = call(county, "--used", used)
    assert code == 1
    assert "[unplanned-used]" in out
    assert "[text-rfc5952]" in out
    used.write_text("nothing\n", "utf-8")
    assert call(county, "--used", used)[0] == 2
    assert call(county, "--used", tmp_path / "none")[0] == 2


def test_divisions(hierarchy: Path, tmp_path: Path) -> None:
    """All of a list is covered, or exit 1; a list that is none is bad input."""
    listed = tmp_path / "list.csv"
    listed.write_text("code\n" + "\n".join(CODES) + "\n", "utf-8")
    assert call(hierarchy, "--divisions", listed)[0] == 0
    listed.write_text("code\n" + "\n".join([*CODES, "410329001299"]) + "\n", "utf-8")
    code, out, _ = call(hierarchy, "--divisions", listed)
    assert code == 1
    assert "410329001299" in out
    assert call(hierarchy, "--divisions", tmp_path / "none")[0] == 2


def test_one_prefix_in_two_plans(hierarchy: Path, tmp_path: Path) -> None:
    """A prefix given twice across files fails them together, though each alone is good."""
    other = tmp_path / "copy" / "plan.csv"
    other.parent.mkdir()
    other.write_bytes(hierarchy.read_bytes())
    certificate_path(other).write_bytes(certificate_path(hierarchy).read_bytes())
    assert call(other)[0] == 0
    code, out, _ = call(hierarchy, other)
    assert code == 1
    assert "FAIL across" in out
    assert call(hierarchy, hierarchy)[0] == 2


@pytest.mark.parametrize("content", [None, b"", b"{}", b"a,b\n1,2\n", b"\xff\xfe"])
def test_bad_input_is_exit_2(tmp_path: Path, content: bytes | None) -> None:
    """What is no plan is bad input, in one line."""
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    code, out, err = call(path)
    assert (code, out) == (2, "")
    assert str(path) in err


def keys(folder: Path) -> tuple[Path, Path]:
    """Write a pair of keys."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, Public.SubjectPublicKeyInfo))
    return private, public


def test_signing_and_verifying(hierarchy: Path, county: Path, tmp_path: Path) -> None:
    """What was signed verifies; nothing signed, another key, a changed plan or certificate does not."""
    private, public = keys(tmp_path)
    assert call(hierarchy, county, "--key", public)[0] == 1
    before = hierarchy.read_bytes(), certificate_path(hierarchy).read_bytes()
    assert call(hierarchy, county, "--sign", private)[0] == 0
    assert (hierarchy.read_bytes(), certificate_path(hierarchy).read_bytes()) == before
    code, out, _ = call(hierarchy, county, "--key", public)
    assert code == 0
    assert out.count("pass signature") == 2
    (tmp_path / "other").mkdir()
    _, stranger = keys(tmp_path / "other")
    code, out, _ = call(hierarchy, "--key", stranger)
    assert code == 1
    assert "not by SHA256:" in out
    certificate = certificate_path(hierarchy)
    certificate.write_text(certificate.read_text("utf-8").replace('"comfortable": 0.8', '"comfortable": 0.7'), "utf-8")
    code, out, _ = call(hierarchy, "--key", public)
    assert code == 1
    assert "signed for another plan or certificate" in out


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"signature": "x", "key": ""}', "\xff"])
def test_damaged_signatures(county: Path, tmp_path: Path, text: str) -> None:
    """A signature file that is none fails the check, and is named."""
    _, public = keys(tmp_path)
    county.with_name("addresses.json.signature.json").write_text(text, "latin-1")
    code, out, _ = call(county, "--key", public)
    assert code == 1
    assert "FAIL signature" in out


def test_what_failed_is_not_signed(county: Path, tmp_path: Path) -> None:
    """A plan with an error is not signed."""
    private, _ = keys(tmp_path)
    code, _, err = call(county, "--production", "--sign", private)
    assert code == 1
    assert "not signed" in err
    assert not county.with_name("addresses.json.signature.json").exists()


def test_keys_of_openssh(county: Path, tmp_path: Path) -> None:
    """Keys as ssh-keygen writes them work as well."""
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "id", tmp_path / "id.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, Public.OpenSSH))
    assert call(county, "--sign", private)[0] == 0
    assert call(county, "--key", public)[0] == 0
    told = subprocess.run(["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True).stdout
    said = json.loads(county.with_name("addresses.json.signature.json").read_text("utf-8"))
    assert said["key"] in told


def test_keys_that_cannot_be_used(county: Path, tmp_path: Path) -> None:
    """A missing, locked, wrong or swapped key is bad input, said in one line; nothing is signed."""
    private, public = keys(tmp_path)
    locked, other, junk = tmp_path / "locked", tmp_path / "x25519", tmp_path / "junk"
    key = Ed25519PrivateKey.generate()
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    other.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    junk.write_bytes(b"junk")
    cases = [("--sign", f, w) for f, w in ((locked, "passphrase"), (other, "Ed25519"), (junk, "no private key"))]
    cases += [("--key", private, "is a private key"), ("--key", junk, "no public key"), ("--sign", public, "private")]
    cases += [("--key", tmp_path / "none", "cannot be read")]
    for option, file, words in cases:
        code, out, err = call(county, option, file)
        assert (code, out) == (2, "")
        assert words in err
        assert len(err.splitlines()) == 1
    assert not county.with_name("addresses.json.signature.json").exists()


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ('"version": 1', '"version": 1e999'),
        ('"width": 8', '"width": 1000'),
        ('"width": 8', '"width": -1'),
        ('"length": 32', '"length": 200'),
        ('"pools"', '"none"'),
        ('"counts"', '"x": ' + "[" * 100_000 + "]" * 100_000 + ', "counts"'),
    ],
)
def test_a_damaged_certificate_is_never_unexpected(hierarchy: Path, found: str, put: str) -> None:
    """Numbers and nesting that cannot be are failed checks or bad input, told in words."""
    certificate = certificate_path(hierarchy)
    text = certificate.read_text("utf-8")
    assert found in text
    certificate.write_text(text.replace(found, put), "utf-8")
    code, _, err = call(hierarchy)
    assert code in {1, 2}
    assert "unexpected" not in err


def test_base(hierarchy: Path, tmp_path: Path) -> None:
    """--base is for one plan, and what it finds fails the plan."""
    old = tmp_path / "old" / "plan.csv"
    old.parent.mkdir()
    for path in (hierarchy, certificate_path(hierarchy)):
        (old.parent / path.name).write_bytes(path.read_bytes())
    code, out, _ = call(hierarchy, "--base", old)
    assert code == 1
    assert "FAIL carried on" in out
    assert call(hierarchy, old, "--base", old)[0] == 2
    certificate_path(hierarchy).write_text(
        certificate_path(hierarchy).read_text("utf-8").replace('"version": 1', '"version": 2'), "utf-8"
    )
    assert "advice version 2 was not held against its base" in call(hierarchy)[1]
