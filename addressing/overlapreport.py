"""What was found about overlaps, said: lines for people, values for machines, a workbook or CSV for the office."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from addressing.leaks import LeakConflict, Leaks, Source, describe
from addressing.overlapfindings import Findings
from addressing.overlaps import Cluster, Overlaps, PairCounts
from addressing.resolution import ACTIONS, Language, Resolution, Resolutions, explain_choice, name_action
from inventory.errors import ExtranetError
from inventory.wording import counted

_MATRIX_SHOWN, _ROWS_SHOWN, _CONFLICTS_SHOWN = 12, 6, 10
_TEXT: dict[str, dict[Language, str]] = {
    "looked": {
        "en": "{departments}, {claims} ({blocks}) in {files}",
        "zh": "{departments}个部门，{claims}行记录（{blocks}个不同网段），{files}个文件",
    },
    "none": {
        "en": "[green]good[/]: no two departments' blocks meet",
        "zh": "[green]通过[/]：各部门网段互不重叠",
    },
    "found": {
        "en": "[yellow]overlaps[/]: {total} ({exact} exact, {contained} contained, {partial} partial) in {clusters}",
        "zh": "[yellow]存在重叠[/]：共{total}对（完全相同{exact}，包含{contained}，部分重叠{partial}），分为{clusters}组",
    },
    "matrix": {"en": "Pairs by department", "zh": "部门两两重叠对数"},
    "more-departments": {
        "en": "  shown are the {shown} departments with most pairs, of {all}; all are in --json and --out",
        "zh": "  仅显示重叠最多的{shown}个部门（共{all}个），全部见 --json 和 --out",
    },
    "cluster": {
        "en": "[bold]{outermost}[/] (cluster {number}): {departments}; {total} "
        "({exact} exact, {contained} contained, {partial} partial), {rows}",
        "zh": "[bold]{outermost}[/]（第{number}组）：{departments}；{total}对"
        "（完全相同{exact}，包含{contained}，部分重叠{partial}），{rows}行",
    },
    "more-rows": {"en": "    and {more} more rows", "zh": "    另有{more}行"},
    "more-clusters": {
        "en": "  and {more} smaller clusters; --top shows more, --json and --out have all",
        "zh": "  另有{more}个较小的组；--top 显示更多，全部见 --json 和 --out",
    },
    "leak": {
        "en": "[yellow]leak conflict[/] in VRF {place}: {first} and {second} - {total}, first {one} and {other}",
        "zh": "[yellow]路由泄漏冲突[/] VRF {place}：{first}与{second}，{total}对，首例：{one}与{other}",
    },
    "own": {"en": "its own prefixes", "zh": "本VRF网段"},
    "leaked": {"en": "those of {vrf} leaked by {targets}", "zh": "{vrf}经{targets}泄漏的网段"},
    "more-leaks": {"en": "  and {more} more leak conflicts", "zh": "  另有{more}处泄漏冲突"},
    "no-leak": {
        "en": "[green]good[/]: of {placed} in {vrfs}, no leaked prefix meets another",
        "zh": "[green]通过[/]：{vrfs}个VRF、{placed}行记录，泄漏的网段均不冲突",
    },
    "unplaced": {
        "en": "[yellow]not checked for leaks[/]: {rows} of {departments} in no VRF, first {first}; "
        "name their VRF, or their department's in --vrfs",
        "zh": "[yellow]未检查泄漏[/]：{departments}的{rows}行不属于任何VRF，首例{first}；请注明其VRF，或在 --vrfs 中注明部门",
    },
    "cost": {
        "en": "Resolution: {hours:.1f} person-hours in all{bound}; {actions}",
        "zh": "处置方案：共{hours:.1f}工时{bound}；{actions}",
    },
    "bound": {"en": ", no plan costs less than {lower:.1f}", "zh": "，任何方案不低于{lower:.1f}工时"},
    "least": {"en": ", the least there is", "zh": "，为最低费用"},
    "unresolved": {
        "en": "[red]unresolved[/]: in {cases} nothing that may be done helps a department; allow more in --costs",
        "zh": "[red]未能解决[/]：{cases}处没有可行办法；请在 --costs 中放宽允许的办法",
    },
}
_NOUNS: dict[str, tuple[str, ...]] = {
    "departments": ("department",),
    "claims": ("row",),
    "rows": ("row",),
    "placed": ("row",),
    "blocks": ("different block",),
    "files": ("file",),
    "total": ("pair",),
    "clusters": ("cluster",),
    "cases": ("case",),
    "vrfs": ("VRF",),
}


# on the screen


def _say(key: str, language: Language, **values: object) -> str:
    if language == "en":
        values = {k: counted(v, *_NOUNS[k]) if k in _NOUNS and isinstance(v, int) else v for k, v in values.items()}
    return _TEXT[key][language].format(**values)


def _counts(pairs: PairCounts) -> dict[str, int]:
    return {**pairs._asdict(), "total": pairs.total}


def show_overlaps(found: Findings, language: Language, top: int) -> Iterator[str | Table]:
    """Yield what a screen shows, in rich's markup: the totals, who meets whom, and the `top` largest clusters."""
    met = found.overlaps
    yield _say_looked(found, language)
    if not met.clusters:
        yield _say("none", language)
    else:
        yield _say("found", language, **_counts(met.pairs), clusters=len(met.clusters))
        yield from _matrix_parts(met, language)
        yield from _cluster_lines(found, language, top)
    yield from _leak_lines(found, language)
    if met.clusters:
        yield from _cost_lines(found.resolutions, language)


def _say_looked(found: Findings, language: Language) -> str:
    met = found.overlaps
    values = {"departments": len(met.departments), "claims": met.claims, "blocks": met.blocks}
    return _say("looked", language, **values, files=len(found.files))


def _matrix_parts(met: Overlaps, language: Language) -> Iterator[str | Table]:
    names = _busiest(met)
    shown = sorted(names[:_MATRIX_SHOWN])
    table = Table(title=_say("matrix", language), title_justify="left", show_edge=False)
    table.add_column("")
    for name in shown:
        table.add_column(escape(name), justify="right")
    for name in shown:
        table.add_row(escape(name), *("-" if name == o else str(met.between(name, o).total) for o in shown))
    yield table
    if len(names) > len(shown):
        yield _say("more-departments", language, shown=len(shown), all=len(names))


def _busiest(met: Overlaps) -> list[str]:
    """Return the departments that meet any other, those with most pairs first."""
    totals: dict[str, int] = {}
    for pair, counts in met.matrix.items():
        for name in pair:
            totals[name] = totals.get(name, 0) + counts.total
    return sorted(totals, key=lambda n: (-totals[n], n))


def _cluster_lines(found: Findings, language: Language, top: int) -> Iterator[str]:
    met = found.overlaps
    for cluster in met.largest(top):
        yield _safe_line("cluster", language, _cluster_values(cluster))
        rows = met.members_of(cluster)
        for claim in rows[:_ROWS_SHOWN]:
            yield f"    {escape(str(claim.block)):24} {escape(claim.department)}  {escape(claim.where)}"
        if len(rows) > _ROWS_SHOWN:
            yield _say("more-rows", language, more=len(rows) - _ROWS_SHOWN)
        for choice in found.resolutions.each[cluster.number - 1].choices:
            yield f"    → {escape(explain_choice(choice, language))}"
    if len(met.clusters) > top:
        yield _say("more-clusters", language, more=len(met.clusters) - top)


def _safe_line(key: str, language: Language, values: dict[str, object]) -> str:
    return _say(key, language, **{k: escape(v) if isinstance(v, str) else v for k, v in values.items()})


def _cluster_values(cluster: Cluster) -> dict[str, object]:
    return {
        "outermost": str(cluster.outermost),
        "number": cluster.number,
        "departments": ", ".join(cluster.departments),
        "rows": len(cluster),
        **_counts(cluster.pairs),
    }


def _leak_lines(found: Findings, language: Language) -> Iterator[str]:
    leaks = found.leaks
    if leaks is None:
        return
    for conflict in leaks.conflicts[:_CONFLICTS_SHOWN]:
        yield _safe_line("leak", language, _leak_values(conflict, language))
    if len(leaks.conflicts) > _CONFLICTS_SHOWN:
        yield _say("more-leaks", language, more=len(leaks.conflicts) - _CONFLICTS_SHOWN)
    if leaks.unplaced:
        departments = ", ".join(sorted({c.department for c in leaks.unplaced}))
        values = {"rows": len(leaks.unplaced), "departments": departments, "first": leaks.unplaced[0].where}
        yield _safe_line("unplaced", language, {**values})
    elif not leaks.conflicts:
        yield _say("no-leak", language, placed=leaks.placed, vrfs=len(found.vrfs))


def _leak_values(conflict: LeakConflict, language: Language) -> dict[str, object]:
    pair = conflict.example
    return {
        "place": conflict.place,
        "first": _source(conflict.first, language),
        "second": _source(conflict.second, language),
        "one": f"{pair.first.block} ({pair.first.department}, {pair.first.where})",
        "other": f"{pair.second.block} ({pair.second.department}, {pair.second.where})",
        **_counts(conflict.pairs),
    }


def _source(source: Source, language: Language) -> str:
    if not source.hops:
        return _say("own", language)
    targets = " → ".join(f"{h.target} ({h.vrf})" for h in source.hops)
    return _say("leaked", language, vrf=source.vrf, targets=targets)


def _cost_lines(solved: Resolutions, language: Language) -> Iterator[str]:
    bound = _say("least", language) if solved.exact else _say("bound", language, lower=solved.lower)
    counts = solved.actions()
    actions = ", ".join(f"{name_action(a, language)} × {counts[a]}" for a in ACTIONS if counts.get(a))
    if not solved.resolved:
        bound = ""
    yield _say("cost", language, hours=solved.hours, bound=bound, actions=actions or "-")
    if not solved.resolved:
        yield _say("unresolved", language, cases=counts["none"])


# for machines


def as_values(found: Findings, language: Language) -> dict[str, Any]:
    """Return everything for machines; only explanations depend on the language."""
    met, leaks = found.overlaps, found.leaks
    return {
        "files": [str(f) for f in found.files],
        "departments": list(met.departments),
        "claims": met.claims,
        "blocks": met.blocks,
        "pairs": _counts(met.pairs),
        "matrix": [{"first": a, "second": b, **_counts(c)} for (a, b), c in met.matrix.items()],
        "clusters": [
            {
                "number": c.number,
                "outermost": str(c.outermost),
                "departments": list(c.departments),
                "pairs": _counts(c.pairs),
                "members": [
                    {"department": m.department, "block": str(m.block), "file": m.file, "sheet": m.sheet, "row": m.row}
                    for m in met.members_of(c)
                ],
                "resolution": _resolution_values(r, language),
            }
            for c, r in zip(met.clusters, found.resolutions.each, strict=True)
        ],
        "leaks": None
        if leaks is None
        else {
            "vrfs": [v.model_dump(mode="json") for v in found.vrfs],
            "conflicts": [describe(c) for c in leaks.conflicts],
            "placed": leaks.placed,
            "unplaced": [{"department": c.department, "block": str(c.block), "at": c.where} for c in leaks.unplaced],
        },
        "resolution": {
            "hours": round(found.resolutions.hours, 3),
            "lower_bound": round(found.resolutions.lower, 3),
            "resolved": found.resolutions.resolved,
            "actions": dict(found.resolutions.actions()),
        },
    }


def _resolution_values(resolution: Resolution, language: Language) -> dict[str, Any]:
    return {
        "hours": round(resolution.hours, 3),
        "lower_bound": round(resolution.lower, 3),
        "choices": [
            {
                "department": c.department,
                "action": c.action,
                "hours": round(c.hours, 3),
                "options": {a: None if h is None else round(h, 3) for a, h in c.options.items()},
                "reason": c.reason,
                "must_reach": list(c.partners),
                "hosts": c.stake.hosts,
                "hosts_assumed": c.stake.assumed,
                "mapping": [{"block": str(b), "pool": str(p)} for b, p in c.mapping],
                "explanation": explain_choice(c, language),
            }
            for c in resolution.choices
        ],
    }


# for the office

_HEADS: dict[str, dict[Language, tuple[str, ...]]] = {
    "clusters": {
        "zh": ("组号", "范围", "部门", "完全相同", "包含", "部分重叠", "总对数", "行数", "处置工时"),
        "en": ("cluster", "range", "departments", "exact", "contained", "partial", "pairs", "rows", "hours"),
    },
    "members": {
        "zh": ("组号", "部门", "网段", "文件", "工作表", "行号", "网络", "VRF", "地点", "备注", "处置", "转换到"),
        "en": (
            "cluster",
            "department",
            "block",
            "file",
            "sheet",
            "row",
            "network",
            "VRF",
            "site",
            "note",
            "treatment",
            "mapped to",
        ),
    },
    "choices": {
        "zh": ("组号", "部门", "处置", "工时", "主机数", "说明"),
        "en": ("cluster", "department", "treatment", "hours", "hosts", "why"),
    },
    "leaks": {
        "zh": ("所在VRF", "来源一", "来源二", "对数", "首例一", "首例二"),
        "en": ("VRF", "first source", "second source", "pairs", "first example", "second example"),
    },
}
_SHEETS: dict[Language, dict[str, str]] = {
    "zh": {
        "summary": "概况",
        "matrix": "部门矩阵",
        "clusters": "重叠组",
        "members": "明细",
        "choices": "处置方案",
        "leaks": "路由泄漏",
    },
    "en": {k: k.capitalize() for k in ("summary", "matrix", "clusters", "members", "choices", "leaks")},
}
_SHEET_ROWS = 1_000_000

_Row = tuple[object, ...]


def make_report(found: Findings, suffix: str, language: Language) -> bytes:
    """Return the report for the office: `.csv` (the members) or `.xlsx` (a sheet for each part)."""
    if suffix == ".csv":
        return _as_csv([_HEADS["members"][language], *_member_rows(found, language)])
    pages: dict[str, list[_Row]] = {
        "summary": [(Text.from_markup(line).plain,) for line in _summary_lines(found, language)],
        "matrix": list(_matrix_rows(found.overlaps)),
        "clusters": [_HEADS["clusters"][language], *_cluster_rows(found)],
        "members": [_HEADS["members"][language], *_member_rows(found, language)],
        "choices": [_HEADS["choices"][language], *_choice_rows(found, language)],
    }
    if found.leaks is not None:
        pages["leaks"] = [_HEADS["leaks"][language], *_leak_rows(found.leaks, language)]
    return _as_workbook({_SHEETS[language][name]: rows for name, rows in pages.items()})


def _summary_lines(found: Findings, language: Language) -> Iterator[str]:
    met = found.overlaps
    yield _say_looked(found, language)
    if met.clusters:
        yield _say("found", language, **_counts(met.pairs), clusters=len(met.clusters))
        yield from _cost_lines(found.resolutions, language)
    else:
        yield _say("none", language)
    if found.leaks is not None:
        yield from _leak_lines(found, language)


def _matrix_rows(met: Overlaps) -> Iterator[_Row]:
    names = sorted(_busiest(met))
    yield ("", *names)
    for name in names:
        yield (name, *(met.between(name, other).total if other != name else "" for other in names))


def _cluster_rows(found: Findings) -> Iterator[_Row]:
    for cluster, resolution in zip(found.overlaps.clusters, found.resolutions.each, strict=True):
        yield (
            cluster.number,
            str(cluster.outermost),
            "、".join(cluster.departments),
            *cluster.pairs,
            cluster.pairs.total,
            len(cluster),
            round(resolution.hours, 1),
        )


def _member_rows(found: Findings, language: Language) -> Iterator[_Row]:
    for cluster, resolution in zip(found.overlaps.clusters, found.resolutions.each, strict=True):
        choice_of = {c.department: c for c in resolution.choices}
        for claim in found.overlaps.members_of(cluster):
            choice = choice_of[claim.department]
            block = claim.block
            # A block within a wider one goes to the same place within what that is mapped to.
            to = next(((b, p) for b, p in choice.mapping if b.first <= block.first and block.last <= b.last), None)
            target = str(block._replace(first=_moved(block.first, to), last=_moved(block.last, to))) if to else ""
            yield (
                cluster.number,
                claim.department,
                str(block),
                claim.file,
                claim.sheet or "",
                claim.row,
                claim.network,
                claim.vrf,
                claim.site,
                claim.note,
                name_action(choice.action, language),
                target,
            )


def _moved(address: int, to: tuple[Any, Any]) -> int:
    block, prefix = to
    return int(prefix.value + (address - block.cover.value))


def _choice_rows(found: Findings, language: Language) -> Iterator[_Row]:
    for resolution in found.resolutions.each:
        for choice in resolution.choices:
            yield (
                resolution.cluster.number,
                choice.department,
                name_action(choice.action, language),
                round(choice.hours, 1),
                choice.stake.hosts,
                explain_choice(choice, language),
            )


def _leak_rows(leaks: Leaks, language: Language) -> Iterator[_Row]:
    for conflict in leaks.conflicts:
        values = _leak_values(conflict, language)
        yield tuple(values[k] for k in ("place", "first", "second", "total", "one", "other"))


def _cell(value: object) -> object:
    """Keep text from being taken for a formula, and leave out what a workbook cannot hold."""
    if not isinstance(value, str):
        return value
    text = "".join(ch for ch in value if ch >= " " or ch in "\t\n")
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t"} else text


def _as_csv(rows: Iterable[_Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(v) for v in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")  # without the mark, Excel takes it for the local code page


def _as_workbook(pages: dict[str, list[_Row]]) -> bytes:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font

    book = Workbook(write_only=True)
    for name, rows in pages.items():
        if len(rows) > _SHEET_ROWS:
            raise ExtranetError(f"sheet {name}: {counted(len(rows), 'row')} are more than a sheet holds; write a .csv")
        sheet = book.create_sheet(name)
        sheet.freeze_panes = "A2"
        for index in range(12):
            sheet.column_dimensions["ABCDEFGHIJKL"[index]].width = 90 if len(rows) and len(rows[0]) == 1 else 20
        for number, row in enumerate(rows):
            cells = [_cell(v) for v in row]
            if number == 0:
                heads = [WriteOnlyCell(sheet, value=str(v)) for v in cells]
                for head in heads:
                    head.font = Font(bold=True)
                sheet.append(heads)
            else:
                sheet.append(cells)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


__all__ = ["as_values", "make_report", "show_overlaps"]
