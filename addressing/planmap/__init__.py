"""The picture of a plan: one HTML file that asks nothing of any network, to look at the whole space and zoom to a /64.

The page's parts lie beside this module; the plan goes in as columns (`addressing.planmap.columns`), never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from importlib.resources import files
from ipaddress import IPv6Network
from typing import Literal

import numpy as np

from addressing.entries import Plan
from addressing.hierarchy import STATES, HierarchyPlan
from addressing.model import AddressPlan
from addressing.planmap.columns import list_blocks
from addressing.text import parse_prefix
from inventory.errors import ExtranetError, UnknownNameError

Lang = Literal["zh", "en"]
SCRIPTS = ("plan.js", "words.js", "page.js")


class EmptyPlanError(ExtranetError):
    """A plan without an entry: there is nothing to draw."""

    def __init__(self) -> None:
        super().__init__("the plan has no entries - expected at least one; make it with 'extranet plan addresses'")


def draw_map(plan: Plan, title: str, lang: Lang) -> str:
    """Return the page: the same text for the same plan, title and language.

    Raises:
        EmptyPlanError: the plan has no entries.
    """
    if not (len(plan) if isinstance(plan, HierarchyPlan) else plan.records):
        raise EmptyPlanError
    blocks = list_blocks(plan)
    columns, packed = blocks.pack()
    about = {
        "lang": lang,
        "rows": len(blocks),
        "columns": columns,
        "kinds": blocks.kind_names,
        "states": STATES,
        "templates": blocks.template_parts,
        "fields": blocks.fields,
        "answered": list(blocks.answered.items()),
    }
    # What a command line cannot say in UTF-8 becomes a question mark.
    title = title.encode("utf-8", "replace").decode()
    style, script = _part("page.css"), "".join(map(_part, SCRIPTS))
    filling = {
        "LANG": "zh-CN" if lang == "zh" else "en",
        "TITLE": html.escape(title),
        "STYLE": style,
        "STYLE_HASH": _hash(style),
        "SCRIPT": script,
        "SCRIPT_HASH": _hash(script),
        # Inside a script element only "<" could end it; JSON has another way to write that.
        "ABOUT": json.dumps(about, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        "PACKED": base64.b64encode(packed).decode("ascii"),
    }
    # In one pass, so that a title that looks like a mark stays what it is.
    return re.sub(r"@@([A-Z_]+)@@", lambda mark: filling[mark[1]], _part("page.html"))


def keep_under(plan: Plan, code: str) -> Plan:
    """Return what lies in the block of one division (by code) or, in a county's plan, of one record (by identity).

    Raises:
        UnknownNameError: the plan has no such code or identity.
    """
    if isinstance(plan, AddressPlan):
        return _records_under(plan, code)
    row = plan.row_of.get(code)
    if row is None:
        raise UnknownNameError("division", code, plan.row_of, where="the plan", see="extranet plan explain")
    value, length = plan.prefix(row)
    last = np.uint64((value >> 64) + (1 << (64 - length)) - 1)
    inside = (plan.high >= plan.high[row]) & (plan.high <= last) & (plan.lengths >= length)
    rows = np.flatnonzero(inside)
    level, kept = int(plan.levels[row]), np.isin(plan.homes[rows], plan.ids[rows])
    layout = plan.layout.model_copy(
        update={
            "pools": (IPv6Network((value, length)),),
            "fields": tuple(f for f in plan.layout.fields if f.level > level),
            "root_level": level,
        }
    )
    return replace(
        plan,
        layout=type(layout).model_validate(layout.model_dump()),
        ids=plan.ids[rows],
        codes=[plan.codes[r] for r in rows],
        names=[plan.names[r] for r in rows],
        levels=plan.levels[rows],
        parents=plan.parents[rows],
        homes=np.where(kept, plan.homes[rows], 0),
        slots=plan.slots[rows],
        high=plan.high[rows],
        lengths=plan.lengths[rows],
        states=plan.states[rows],
        intos=plan.intos[rows],
    )


def _records_under(plan: AddressPlan, identity: str) -> AddressPlan:
    if identity not in plan.by_id:
        raise UnknownNameError("record", identity, plan.by_id, where="the plan", see="extranet plan explain")
    block = parse_prefix(plan.by_id[identity].prefix)
    records = tuple(r for r in plan.records if block.covers(parse_prefix(r.prefix)))
    return plan.altered(records=records)


def _part(name: str) -> str:
    return files(__name__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return the source expression that lets this one inline text in (Content Security Policy 3, 6.7.3.3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


__all__ = ["EmptyPlanError", "Lang", "draw_map", "keep_under"]
