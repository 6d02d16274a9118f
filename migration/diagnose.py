"""Where a failure lies: what a station cannot reach, its own router may. Asked of the routers themselves, never a proof.

A station's check that did not pass is repeated by the router at its site: from the gateway address of the station's LAN,
in its VRF, towards the same service. What the router says goes into the result's raw data and into words for a person;
the result stays what it was, and a station that was not measured stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inventory.model import Family
from inventory.topology import site_router
from migration.campaign import Campaign
from nornir_tasks.drivers import Driver, RouterProbe, RouterSight
from nornir_tasks.hosts import run_on_devices
from nornir_tasks.stations.collect import digest_output
from nornir_tasks.stations.model import Check, Outcome, Result


def diagnose(campaign: Campaign, results: Sequence[Result]) -> list[Result]:
    """Ask the routers about every way that did not pass; return the results with what they said in `raw`."""
    asked: dict[str, dict[RouterProbe, list[int]]] = {}
    for number, result in enumerate(results):
        if result.outcome is not Outcome.PASSED and result.check.expect == "reach":
            router, probe = _probe_of(campaign, result.check)
            asked.setdefault(router, {}).setdefault(probe, []).append(number)
    out = list(results)
    if not asked:
        return out

    most = campaign.county.policy.budgets.router_probes

    def look(driver: Driver) -> list[RouterSight]:
        return look_in_turns(driver, list(asked[driver.device]), most)

    for router, outcome in run_on_devices(campaign.nornir, look, sorted(asked)).items():
        sights = {s.probe: s for s in outcome.value or ()}
        for probe, numbers in asked[router].items():
            sight = sights.get(probe)
            words = _explain(router, sight, campaign) if sight else f"{router} cannot be asked: {outcome.error}"
            told = {"router": router, "says": words, "saw": sight.model_dump(mode="json") if sight else None}
            said = {digest_output(sight.said): sight.said} if sight and sight.said else {}
            for number in numbers:
                found = out[number]
                raw = {**found.raw, "from_its_router": told, "output": [*found.raw.get("output", ()), *said]}
                out[number] = found.model_copy(update={"raw": raw, "said": found.said | said})
    return out


def look_in_turns(driver: Driver, probes: Sequence[RouterProbe], most: int) -> list[RouterSight]:
    """Have a router look at all of these, at most so many at once, one turn after the other in the same session."""
    turns = (probes[at : at + most] for at in range(0, len(probes), most))
    return [sight for turn in turns for sight in driver.look(turn)]


def say_diagnosis(result: Result) -> str:
    """Return what the station's router said of a result; empty when it was not asked."""
    told = result.raw.get("from_its_router")
    return str(told["says"]) if isinstance(told, dict) else ""


def _probe_of(campaign: Campaign, check: Check) -> tuple[str, RouterProbe]:
    site = campaign.county.station_by_id[check.station].site
    router = site_router(campaign.county, site).id
    return router, RouterProbe(vrf=check.plane, source=_gateway(campaign, site, check), address=check.address)


def _gateway(campaign: Campaign, site: str, check: Check) -> str:
    """Return the LAN's gateway address on the extranet, in the check's family."""
    if check.family is Family.IPV6:
        return str(campaign.plan.gateway6(site, check.plane).ip)
    unit = campaign.county.unit_by_lan.get((site, check.plane))
    if unit is not None:
        return str(unit.gateway)
    planned = campaign.plan.gateway4(site, check.plane)
    return str(planned.ip) if planned else ""


def _explain(router: str, sight: RouterSight, campaign: Campaign) -> str:
    probe = sight.probe
    if sight.problem and not sight.answered:
        return f"{router} itself cannot reach {probe.address} in {probe.vrf} either: {sight.problem}"
    if sight.answered:
        return (
            f"{router} itself reaches {probe.address} in {probe.vrf} ({sight.answered} of {sight.sent} answered): "
            "look at the station, its LAN, or a filter on its service"
        )
    way = " → ".join(_name_hops(sight.hops, probe.vrf, campaign)) or "nobody"
    return f"{router} itself cannot reach {probe.address} in {probe.vrf} either; answered on the way: {way}"


def _name_hops(hops: Iterable[str | None], plane: str, campaign: Campaign) -> list[str]:
    found = []
    for address in hops:
        hop = campaign.matrix.hops.find(plane, address) if address else None
        found.append(hop.name if hop else address or "*")
    return found
