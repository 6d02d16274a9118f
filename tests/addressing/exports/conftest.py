"""Plans of both kinds, small and whole: two counties with towns and villages, and the sample county."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from addressing.divisions import Divisions
from addressing.hierarchy import Fate, HierarchyPlan, continue_plan, plan_divisions
from addressing.model import AddressPlan
from addressing.plan import make_plan
from addressing.policy import LaidField, Layout, PlanPolicy, Subnet
from inventory.model import County
from inventory.reader import load_county
from inventory.topology import build_topology

Row = tuple[str, str, int, str]
WIDTHS = ((3, "county", 4), (4, "town", 8), (5, "village", 8))
OFFICES = (Subnet(name="windows", zone="public", slot=0), Subnet(name="finance", zone="dedicated", slot=1))


def make_divisions(rows: Sequence[Row]) -> Divisions:
    """Return divisions of (code, name, level, parent's code)."""
    rows = sorted(rows)
    at = {row[0]: number for number, row in enumerate(rows)}
    return Divisions(
        codes=[r[0] for r in rows],
        names=[r[1] for r in rows],
        levels=np.array([r[2] for r in rows], dtype=np.int8),
        parents=np.array([at.get(r[3], -1) for r in rows], dtype=np.int32),
    )


def lay(pool: str, widths: Sequence[tuple[int, str, int]], root: int = 0) -> tuple[PlanPolicy, Layout]:
    """Return a policy and the layout of fields (level, name, width) below its pool."""
    policy = PlanPolicy(pools=(pool,), templates={"village": OFFICES})  # type: ignore[arg-type] # pydantic reads text
    length, fields = policy.pools[0].prefixlen, []
    for level, name, width in widths:
        length += width
        fields.append(LaidField(level=level, name=name, width=width, length=length, order="centre", reserved=(0,)))
    return policy, Layout(pools=policy.pools, fields=tuple(fields), root_level=root)


def make_rows(counties: int = 2, towns: int = 3, villages: int = 4) -> list[Row]:
    """Return divisions with codes like the statistics bureau's, and Chinese names."""
    rows: list[Row] = []
    for c in range(1, counties + 1):
        county = f"4103{c:02}000000"
        rows.append((county, f"第{c}县", 3, ""))
        for t in range(1, towns + 1):
            town = f"4103{c:02}{t:03}000"
            rows.append((town, f"第{c}县{t}镇", 4, county))
            rows += [(f"4103{c:02}{t:03}{v:03}", f"{t}镇{v}村", 5, town) for v in range(1, villages + 1)]
    return rows


@pytest.fixture(scope="session")
def hierarchy() -> HierarchyPlan:
    """A plan of two counties, three towns each, four villages each: 32 prefixes below 3fff:100::/36."""
    return plan_divisions(make_divisions(make_rows()), *lay("3fff:100::/36", WIDTHS))


@pytest.fixture(scope="session")
def grown(hierarchy: HierarchyPlan) -> HierarchyPlan:
    """The plan a year later: village 410301001004 is gone; town 410302003000 went to 410302002000, its villages live on."""
    rows = [r for r in make_rows() if r[0] not in {"410301001004", "410302003000"}]
    rows = [(c, n, v, "410302002000" if p == "410302003000" else p) for c, n, v, p in rows]
    divisions = make_divisions(rows)
    ids = np.array([hierarchy.ids[hierarchy.row_of[code]] for code in divisions.codes], dtype=np.int64)
    gone, taker = hierarchy.row_of["410302003000"], hierarchy.row_of["410302002000"]
    return continue_plan(hierarchy, divisions, Fate(ids, {int(hierarchy.ids[gone]): int(hierarchy.ids[taker])}))


@pytest.fixture(scope="session")
def county() -> County:
    """The sample county's inventory."""
    return load_county(Path(__file__).resolve().parents[3] / "inventory" / "yichuan")


@pytest.fixture(scope="session")
def county_plan(county: County) -> AddressPlan:
    """The sample county's plan."""
    return make_plan(county, build_topology(county))
