"""The stages on real routers: whatever goes wrong and whenever, devices go back or hold the whole change, and the ledger knows.

One lab of the county's first town, provisioned and with its county units cut over, serves all tests of a worker;
each test takes a unit of its own and puts back what it changed.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.migration.town import FAILED, GOOD, REFUSED, UNKNOWN, Town, open_town

REVERT_S = 60
TIMERS = {"revert_s": REVERT_S, "converge_s": 10, "soak_s": 1, "hold_s": 1}
KILLED = -9
pytestmark = pytest.mark.lab


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the routers whose configuration differs."""
    return sorted(d for d in before if before[d] != after.get(d))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The lab, provisioned, its county units cut over."""
    with open_town(tmp_path_factory.mktemp("campaign") / "county", TIMERS) as made:
        yield made


def test_a_cutover_is_kept_done_once_and_taken_back(town: Town) -> None:
    """Cutting over changes exactly the unit's routers; a second time changes nothing; back is as before."""
    unit, before = "real-estate@chengguan", town.configs()
    shown = town.run("cutover", unit, expect=GOOD)
    assert "nothing was changed" in shown.stdout
    assert town.configs() == before
    town.run("cutover", "不动产登记专网＠城关街道便民服务中心", "--yes", expect=GOOD)
    # The last unit of its network: the core drops what led to the hub as well.
    assert changed(before, town.configs()) == ["chengguan-r1", "core1", "rea-chengguan"]
    assert town.run("config", "diff").returncode == GOOD
    begun = town.intents()
    town.run("cutover", unit, "--yes", expect=GOOD)
    assert town.intents() == begun
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)
    assert town.configs() == before
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)
    assert town.state(unit) == "provisioned"


def test_killed_between_the_confirms_it_is_finished_by_the_same_command(town: Town) -> None:
    """Kill -9 with one side confirmed: the ledger knows it is open, and the same command finishes, pushing nothing twice."""
    unit, before = "social-security@chengguan", town.configs()
    town.break_at("SIGKILL", "after migration.steps:wire.confirm 1", "cutover", unit, "--yes", expect=KILLED)
    assert town.state(unit) == "proven (open)"
    assert town.armed() == ["hrs-chengguan"]
    begun = town.intents()
    done = town.run("cutover", unit, "--yes", expect=GOOD)
    assert "every device keeps the change" in done.stderr
    assert town.intents() == begun
    assert town.armed() == []
    assert changed(before, town.configs()) == ["chengguan-r1", "hrs-chengguan"]
    assert town.state(unit) == "cut_over"
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)
    assert town.configs() == before


@pytest.mark.heavy
def test_a_router_that_reboots_before_its_confirm_undoes_all(town: Town) -> None:
    """The old side rebooted under its timer and came back as before: the new side, confirmed already, is changed back."""
    unit, before = "finance-man@chengguan", town.configs()
    reboot = f"{town.fault_command('stop', 'fin-chengguan')} && {town.fault_command('start', 'fin-chengguan')}"
    done = town.break_at(reboot, "before migration.steps:wire.confirm 2", "cutover", unit, "--yes", expect=FAILED)
    assert "fin-chengguan: change" in done.stdout
    assert town.configs() == before
    assert town.state(unit) in {"provisioned", "proven"}


@pytest.mark.heavy
def test_a_need_that_fails_in_the_proof_undoes_all(town: Town) -> None:
    """One service that a station cannot reach over the new path: exit 1, the check named, everything as before."""
    unit, before = "finance-man@chengguan", town.configs()
    cut = town.fault_command("drop", "chengguan-r1", "--what", "tcp", "--port", "1521")
    try:
        done = town.break_at(cut, "before migration.steps:_Run._judge 1", "cutover", unit, "--yes", expect=FAILED)
    finally:
        town.fault("undrop", "chengguan-r1")
    assert "chengguan-center/finance/finance" in done.stdout
    assert town.configs() == before
    assert town.armed() == []


@pytest.mark.heavy
def test_a_router_that_cannot_be_trusted_is_not_touched(town: Town) -> None:
    """Wrong host key, refused login: one clear line, exit 1, nothing changed on any router."""
    router, push, before = "chengguan-wabei-r1", ("config", "push", "chengguan-wabei", "--yes"), town.configs()
    known = town.folder / ".lab" / "known_hosts"
    good = known.read_text("utf-8")
    address = town.campaign.access.addresses[router]
    other = next(line.partition(" ")[2] for line in good.splitlines() if not line.startswith(f"{address} "))
    known.write_text(re.sub(rf"(?m)^{re.escape(address)} .*$", f"{address} {other}", good), "utf-8")
    try:
        assert f"{router}: the host key" in town.run(*push, expect=FAILED).stdout
    finally:
        known.write_text(good, "utf-8")

    def move_keys(old: str, new: str) -> None:
        town.run("lab", "exec", router, "--", "mv", f"/etc/ssh/{old}", f"/etc/ssh/{new}", expect=GOOD)

    move_keys("lab_authorized_keys", "aside")
    try:
        assert f"{router}: {address} port 22 refused 'root'" in town.run(*push, expect=FAILED).stdout
    finally:
        move_keys("aside", "lab_authorized_keys")

    assert town.configs() == before


def test_a_second_operator_is_turned_away(town: Town) -> None:
    """While one command changes the county, another is refused at once and told who it is."""
    other = f"{sys.executable} -P -m scripts.main config push --yes; test $? = {UNKNOWN}"
    town.break_at(
        other, "before migration.steps:_Run._judge 1", "config", "push", "chengguan-wabei", "--yes", expect=GOOD
    )


def test_a_village_retires_stage_by_stage_and_comes_back(town: Town) -> None:
    """Refused without proof and while evidence is lost; drained and undone; shut, held and removed in order."""
    unit, hub = "party-edu@chengguan-wabei", "party-edu@county"
    town.run("retire", unit, "--yes", expect=REFUSED)
    town.run("cutover", unit, "--yes", expect=GOOD)
    town.soak(unit)
    assert json.loads(town.run("verify", "--unit", unit, "--json", expect=GOOD).stdout)["ok"]
    refused = town.run("retire", unit, "--yes", expect=REFUSED)
    assert f"while the old path of {unit} was up, which proves nothing" in refused.stdout
    before = town.configs()
    town.run("prove", unit, "--yes", expect=GOOD)
    assert (town.configs(), town.armed(), town.state(unit)) == (before, [], "cut_over")
    runs = [p for p in (town.folder / "evidence").iterdir() if ".watch." not in p.name]
    newest = max(runs, key=lambda path: path.stat().st_mtime_ns)
    kept = newest.read_bytes()
    newest.write_bytes(kept[:-9])
    refused = town.run("retire", unit, "--yes", expect=REFUSED)
    assert "a run is lost" in refused.stdout
    newest.write_bytes(kept)

    town.run("retire", unit, "--until", "drained", "--yes", expect=GOOD)
    assert town.state(unit) == "drained"
    town.run("cutover", unit, "--back", "--yes", expect=REFUSED)
    town.run("retire", unit, "--undo", "--yes", expect=GOOD)
    assert town.state(unit) == "soaked"
    town.run("retire", unit, "--undo", "--yes", expect=REFUSED)
    town.run("retire", hub, "--yes", expect=REFUSED)  # others still hang on it
    town.run("retire", unit, "--wait", "--yes", expect=GOOD)
    assert town.state(unit) == "removed"
    town.run("retire", unit, "--yes", expect=GOOD)
    town.run("retire", unit, "--undo", "--yes", expect=REFUSED)
    assert town.run("ledger", "verify").returncode == GOOD


@pytest.mark.heavy
def test_a_town_drains_while_its_villages_still_hold_its_line(town: Town) -> None:
    """A town's own route goes once its villages are proven with it; its line is not shut before theirs."""
    unit, behind = both = ("social-security@chengguan", "social-security@chengguan-xichang")
    town.run("cutover", unit, "--yes", expect=GOOD)
    refused = town.run("prove", unit, "--yes", expect=REFUSED)
    assert f"{behind} hangs behind the line" in refused.stdout
    town.run("cutover", behind, "--yes", expect=GOOD)
    town.soak(*both)
    town.run("prove", *both, "--yes", expect=GOOD)
    town.run("retire", unit, "--until", "drained", "--yes", expect=GOOD)
    assert (town.state(unit), town.state(behind)) == ("drained", "cut_over")
    refused = town.run("retire", unit, "--until", "shut", "--yes", expect=REFUSED)
    assert f"{behind} still hangs on this link" in refused.stdout
    town.run("retire", unit, "--undo", "--yes", expect=GOOD)
    town.run("cutover", *both, "--back", "--yes", expect=GOOD)


WINDOW = "chengguan-center/hrss/hrss/ipv4"
"""What the cutover of social-security@chengguan takes away for a moment."""


def test_what_a_cutover_is_felt_as_is_measured_and_told(town: Town) -> None:
    """The moved service was gone for a moment, others were not; report, ledger and summary say the same seconds."""
    unit = "social-security@chengguan"
    done = json.loads(town.run("cutover", unit, "--yes", "--json", expect=GOOD).stdout)
    outage = done["units"][0]["outcome"]["outage"]
    felt = {"/".join((t["station"], t["plane"], t["services"][0], t["family"])): t for t in outage["by_target"]}
    assert 0 < felt[WINDOW]["seconds"] <= outage["budget_s"]
    assert felt[WINDOW]["open"] is False
    assert outage["unknown"] == 0
    assert felt["chengguan-center/hrss/hrss/ipv6"]["worked"]
    summary = json.loads(town.run("outage", "--unit", unit, "--json", expect=GOOD).stdout)
    assert summary["changes"][-1]["outage"]["digest"] == outage["digest"]
    assert summary["stations"][0]["station"] == "chengguan-center"
    assert "| chengguan-center |" in town.run("outage", "--markdown", expect=GOOD).stdout
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)


def test_a_cutover_over_its_outage_budget_goes_back_by_itself(town: Town) -> None:
    """The way between old and new is held up for longer than the budget: exit 1, station, service and seconds, all as before."""
    unit, before = "social-security@chengguan", town.configs()
    done = town.break_at("sleep 14", "after migration.steps:_Run._commit 1", "cutover", unit, "--yes", expect=FAILED)
    assert f"{WINDOW}: outage" in done.stdout
    assert "expected 10 s at most, found 1" in done.stdout
    assert "on the way back" in done.stdout
    assert town.configs() == before
    assert town.armed() == []
    assert town.state(unit) in {"provisioned", "proven"}


@pytest.mark.heavy
def test_a_spent_budget_does_not_wait_for_the_proof_to_end(town: Town) -> None:
    """A budget that is less than what a cutover takes here: back by itself, though every service would have come."""
    unit, policy = "social-security@chengguan", town.folder / "policy.yaml"
    text, before = policy.read_text("utf-8"), town.configs()
    policy.write_text(re.sub(r"(?m)^(\s+budget_s:) \d+", r"\1 0.5", text), "utf-8")
    try:
        done = town.run("cutover", unit, "--yes", expect=FAILED)
    finally:
        policy.write_text(text, "utf-8")
    over = r"chengguan-center/hrss/\S+: outage - expected 0\.5 s at most, found "  # whichever way first
    assert re.search(over, done.stdout)
    assert town.configs() == before
    assert town.armed() == []


@pytest.mark.heavy
def test_a_watch_that_is_lost_is_unknown_and_goes_back(town: Town) -> None:
    """The stations' sessions die during the change: not known is not good, so all goes back."""
    unit, before = "social-security@chengguan", town.configs()
    lose = "pkill -KILL -P $PPID -x ssh"
    done = town.break_at(lose, "after migration.steps:_Run._commit 2", "cutover", unit, "--yes", expect=FAILED)
    assert "outage unknown: the watch was lost" in done.stdout
    assert town.configs() == before
    assert town.armed() == []


@pytest.mark.heavy
def test_a_killed_command_leaves_no_watch_at_the_stations(town: Town) -> None:
    """Kill -9 in the middle of the change: every station's agent ends with its session."""
    unit = "social-security@chengguan"
    town.settle(unit)
    moment = "after migration.steps:_Run._commit 1"
    town.break_at("SIGKILL", moment, "cutover", unit, "--yes", expect=KILLED)
    look = "grep -las 'zlib[.]decompress' /proc/[0-9]*/cmdline"  # does not find itself
    ends = time.monotonic() + 30
    stations = [s.id for s in town.campaign.county.stations]
    while left := [s for s in stations if town.run("lab", "exec", s, "--", "sh", "-c", look).stdout.strip()]:
        assert time.monotonic() < ends, left
    town.run("cutover", unit, "--yes", expect=GOOD)
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)


MOMENTS = (
    "before migration.steps:_Run._open 1",
    "after migration.steps:_Run._open 1",
    "after nornir_tasks.platforms.frr.driver:FrrDriver.commit_config 1",
    "after migration.steps:_Run._commit 1",
    "after migration.steps:_Run._commit 2",
    "after migration.steps:_Run._prove 1",
    "before migration.steps:_Run._record_decision 1",
    "after migration.steps:_Run._record_decision 1",
    "after migration.steps:wire.confirm 1",
    "after migration.steps:wire.confirm 2",
    "before migration.steps:_Run._close 1",
    "after migration.steps:_Run._close 1",
)


@pytest.mark.heavy
def test_a_router_that_dies_between_the_confirms_is_waited_for(town: Town) -> None:
    """Nobody knows what it holds (exit 4): refused while it is off (exit 3), done when it is back."""
    unit, before = "finance-man@chengguan", town.configs()
    stop = town.fault_command("stop", "fin-chengguan")
    done = town.break_at(stop, "before migration.steps:wire.confirm 2", "cutover", unit, "--yes", expect=UNKNOWN)
    try:
        assert "not seen to go back: fin-chengguan" in done.stdout
        assert "(open)" in town.state(unit)
        assert "is unfinished" in town.run("cutover", unit, "--yes", expect=REFUSED).stdout
        assert "is unfinished" in town.run("config", "push", "chengguan", "--yes", expect=REFUSED).stderr
    finally:
        town.fault("start", "fin-chengguan")
    town.run("cutover", unit, "--yes", expect=GOOD)
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)
    assert town.configs() == before


@pytest.mark.heavy
def test_a_router_that_is_off_is_not_waited_for(town: Town) -> None:
    """A legacy router (its leg is dead) or an extranet router that is off: exit 3 in words, and nothing changed elsewhere."""
    unit, before = "finance-man@chengguan", town.configs()
    for router, words in (
        ("fin-chengguan", "expected blocked on a working leg, found leg finance dead"),
        ("chengguan-r1", "chengguan-r1: cannot be reached"),
    ):
        town.fault("stop", router)
        try:
            done = town.run("cutover", unit, "--yes", expect=REFUSED)
        finally:
            town.fault("start", router)
        assert words in done.stdout + done.stderr
    assert town.configs() == before


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the timers"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_ends_whole(town: Town, moment: str, *, late: bool) -> None:
    """Kill -9 at each moment of a cutover, then the same command: done once, every router whole, nothing armed."""
    unit, before = "social-security@chengguan", town.configs()
    town.settle(unit)
    town.break_at("SIGKILL", moment, "cutover", unit, "--yes", expect=KILLED)
    if late:
        time.sleep(REVERT_S + 5)
        halves = changed(before, town.configs())
        if moment.split()[1:] != [
            "migration.steps:wire.confirm",
            "1",
        ]:  # the one moment that leaves a half, until asked
            assert halves in ([], ["chengguan-r1", "hrs-chengguan"])
    town.run("cutover", unit, "--yes", expect=GOOD)
    assert changed(before, town.configs()) == ["chengguan-r1", "hrs-chengguan"]
    assert town.armed() == []
    assert town.state(unit) == "cut_over"
    town.run("cutover", unit, "--back", "--yes", expect=GOOD)
    assert town.configs() == before


@pytest.mark.heavy
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", MOMENTS[2:])
def test_interrupted_at_any_moment_it_ends_whole(town: Town, moment: str, number: str) -> None:
    """Ctrl-C or a polite kill at each moment of a retirement's stage: exit 4, nothing armed, nothing open."""
    unit, before = "social-security@chengguan-xichang", town.configs()
    if town.state(unit) == "provisioned":
        town.run("cutover", unit, "--yes", expect=GOOD)
        before = town.configs()
    town.soak(unit)
    town.run("prove", unit, "--yes", expect=GOOD)
    moment = moment.replace("_commit 2", "_commit 1").replace("confirm 2", "confirm 1")
    town.break_at(number, moment, "retire", unit, "--until", "drained", "--yes", expect=UNKNOWN)
    assert town.armed() == []
    state = town.state(unit)
    assert state in {"soaked", "drained"}
    assert changed(before, town.configs()) == ([] if state == "soaked" else ["hrs-hub"])
    if state == "drained":
        town.run("retire", unit, "--undo", "--yes", expect=GOOD)
    assert town.configs() == before


@pytest.mark.heavy
def test_a_removed_line_leaves_all_it_takes_to_rebuild_and_certify_it(town: Town) -> None:
    """Archived before its cutover and before its removal; taken over, not released; held, rebuilt on paper, certified."""
    unit, before = "party-edu@chengguan-xichang", town.configs()
    routers = {"edu-chengguan", "edu-hub"}
    town.run("cutover", unit, "--yes", expect=GOOD)
    time.sleep(TIMERS["soak_s"])
    out = town.folder.parent / f"{unit}.html"
    assert "expected removed or later, found cut_over" in town.run("certificate", unit, "--out", str(out)).stderr
    town.run("prove", unit, "--yes", expect=GOOD)
    town.soak(unit)
    town.run("retire", unit, "--until", "drained", "--yes", expect=GOOD)

    def archives() -> list[dict[str, Any]]:
        listed = json.loads(town.run("archive", "list", "--json").stdout)["archives"]
        return [a for a in listed if a["unit"] == unit]

    first = archives()[0]
    assert (first["state"], set(first["configs"])) == ("provisioned", routers)
    kept = {r: town.folder / "archive" / f"{sha}.cfg" for r, sha in first["configs"].items()}
    assert {r: path.read_text("utf-8") for r, path in kept.items()} == {r: before[r] for r in routers}
    newest = town.folder / "archive" / f"{archives()[-1]['configs']['edu-chengguan']}.cfg"
    newest.rename(newest.with_suffix(".off"))
    assert "is lost" in town.run("retire", unit, "--until", "shut", "--yes", expect=REFUSED).stdout
    assert town.run("archive", "list").returncode == FAILED
    town.run("archive", "take", unit, "--yes", expect=GOOD)
    town.run("retire", unit, "--until", "shut", "--wait", "--yes", expect=GOOD)
    town.run("retire", unit, "--undo", "--yes", expect=GOOD)  # held lines come back as well
    town.run("retire", unit, "--wait", "--yes", expect=GOOD)
    assert archives()[-1]["state"] == "shut"

    refused = town.run("retire", unit, "--undo", "--yes", expect=REFUSED).stdout
    assert f"extranet archive rebuild {unit}" in refused
    anew = town.folder.parent / "rebuilt"
    town.run("archive", "rebuild", unit, "--out", str(anew), expect=GOOD)
    assert (anew / "edu-hub.provisioned.cfg").read_text("utf-8") == before["edu-hub"]
    assert "x-chengguan-xichang" not in (anew / "README.md").read_text("utf-8")  # another department's line is reused
    lines = (anew / "edu-hub.enter.txt").read_text("utf-8").splitlines()
    assert set(lines) <= set(before["edu-hub"].splitlines())

    told = json.loads(town.run("plan", "quarantine", "--json", expect=GOOD).stdout)
    assert unit in {q["unit"] for q in told["quarantine"]}
    release = ("retire", unit, "--release", "--reference", "12", "--rent-free-from", "2027-01-01")
    assert town.run(*release[:3], expect=REFUSED).returncode == REFUSED
    town.run(*release, expect=GOOD)
    assert town.state(unit) == "removed"
    saved = json.loads(town.run(*release, "--yes", "--json", expect=GOOD).stdout)
    assert (saved["saved_yuan_a_month"], town.state(unit)) == (260, "released")
    town.run("certificate", unit, "--out", str(out), expect=GOOD)
    town.run("certificate", unit, "--check", str(out), expect=GOOD)
    out.write_bytes(out.read_bytes().replace(b"260", b"270"))
    town.run("certificate", unit, "--check", str(out), expect=FAILED)
    assert "edu-hub" in changed(before, town.configs())
