# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible action `extranet`: push, verify, cutover and retire through the suite's own front doors and gates.

    extranet:
      job: push | verify | cutover | retire
      devices: [...]     # push: devices or sites; empty: all
      stations: [...]    # verify: stations; empty: all
      units: [...]       # cutover, retire: `network@site`
      until: removed     # retire: drained, shut or removed

In check mode nothing is changed: the same verdicts and differences are returned.
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

from inventory.errors import ExtranetError


class ActionModule(ActionBase):
    """Run one job of the suite on the control node."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the job; `failed` follows the suite's exit codes, given as `rc`."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        job = arguments.pop("job", None)
        folder = Path(arguments.pop("county", None) or (task_vars or {}).get("extranet_county", "."))
        jobs = {"push": _push, "verify": _verify, "cutover": _cutover, "retire": _retire}
        if job not in jobs:
            return {**result, "failed": True, "rc": 2, "msg": f"job: expected one of {', '.join(jobs)}, found {job!r}"}
        apply = not self._task.check_mode
        try:
            return {**result, **jobs[job](folder, arguments, apply)}
        except ExtranetError as error:
            return {**result, "failed": True, "rc": error.exit_code, "msg": str(error)}


def _names(value) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(part) for part in value]


def _push(folder: Path, arguments: dict, apply: bool) -> dict:
    from migration.campaign import open_campaign
    from migration.provision import choose_devices, preview, provision

    campaign = open_campaign(folder)
    devices = choose_devices(campaign, _names(arguments.get("devices")))
    if not apply:
        found = preview(campaign, devices)
        changed = {d: text for d, text in found.diffs.items() if text}
        return {"changed": bool(changed), "failed": bool(found.unknown), "diffs": changed, "unknown": found.unknown}
    report = provision(campaign, devices)
    body = report.as_json()
    went = {d: "changed" for e in report.domains if e.ok for d in e.changed}
    bad = {d: f"{e.name} {e.ending}: {e.reasons[0] if e.reasons else ''}" for e in report.domains if not e.ok for d in devices_of(campaign, e.name, devices)}
    return {
        "changed": bool(went),
        "failed": report.exit_code != 0,
        "rc": report.exit_code,
        "msg": "; ".join(f"{e.name}: {e.ending}" for e in report.domains),
        "report": body,
        "changed_devices": sorted(went),
        "failed_devices": bad,
    }


def devices_of(campaign, domain: str, devices: list[str]) -> list[str]:
    """Return a domain's devices among those asked for."""
    from migration.provision import group_by_domain

    return group_by_domain(campaign, devices).get(domain, [])


def _verify(folder: Path, arguments: dict, apply: bool) -> dict:
    from migration.campaign import open_campaign
    from migration.verify import verify

    report = verify(open_campaign(folder), stations=_names(arguments.get("stations")) or None)
    stations = {
        name: [f"{r.check.id}: {r.why}" for r in results if r.outcome != "passed"]
        for name, results in report.by_station().items()
    }
    failed = sum(len(v) for v in stations.values())
    return {
        "changed": False,
        "failed": not report.ok,
        "rc": 0 if report.ok else 1,
        "msg": f"{len(report.results)} checks, {failed} not passed; evidence {report.digest[:16]}",
        "stations": stations,
        "evidence": report.digest,
    }


def _units(reports, wanted: int) -> dict:
    bodies = [r.as_json() for r in reports]
    refused = [b for b in bodies if not b["allowed"]]
    failed = [b for b in bodies if b["outcome"] and b["outcome"]["ending"] != "done"]
    rc = 3 if refused else 1 if failed else 0
    first = (refused or failed or [None])[0]
    why = ""
    if first:
        reasons = [f"{r['station']} {r['service']}: {r['why']}".strip(" :") for r in first["reasons"]]
        why = f" - {first['unit']}: {(reasons or first['outcome']['reasons'])[0]}"
    return {
        "changed": any(b["outcome"] and b["outcome"]["changed"] for b in bodies),
        "failed": rc != 0 or len(bodies) < wanted,
        "rc": rc,
        "msg": "; ".join(f"{b['unit']}: {b['state']}" for b in bodies) + why,
        "units": bodies,
    }


def _cutover(folder: Path, arguments: dict, apply: bool) -> dict:
    from migration.campaign import open_campaign
    from migration.cutover import cutover

    campaign = open_campaign(folder)
    units = campaign.find_units(_names(arguments.get("units")))
    return _units(cutover(campaign, units, apply=apply), max(len(units), 1))


def _retire(folder: Path, arguments: dict, apply: bool) -> dict:
    from migration.campaign import open_campaign
    from migration.retire import retire

    campaign = open_campaign(folder)
    units = campaign.find_units(_names(arguments.get("units")))
    until = arguments.get("until", "removed")
    if until not in {"drained", "shut", "removed"}:
        raise ExtranetError(f"until: expected drained, shut or removed, found {until!r}; choose one of them")
    return _units(retire(campaign, units, apply=apply, until=until), max(len(units), 1))
