"""`extranet plan addresses --divisions` and `plan update`: plans of whole hierarchies, from a county to a country."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inventory.wording import counted
from scripts.commands._shell import AsJson, Progress, boundary, complain, console, print_json

if TYPE_CHECKING:
    from addressing.budget import Budget
    from addressing.exports import Content
    from addressing.hierarchy import HierarchyPlan
    from addressing.policy import PlanPolicy
    from addressing.succession import Succession

PLAN_FORMATS = ("csv", "json")
"""The forms in which a plan is kept and can be continued; every other format is an export."""
_SHOWN = 20


@contextmanager
def holding(*paths: Path) -> Iterator[None]:
    """Let nobody else write plans in these files' folders meanwhile; waits for who does."""
    import fcntl
    import os

    folders = sorted({path.parent.resolve() for path in paths})
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, held)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                complain(f"waiting: another command writes plans in {folder}")
                fcntl.flock(held, fcntl.LOCK_EX)
        yield


def rest_collector() -> None:
    """Switch the cycle collector off: a plan is millions of objects without a cycle, counted again and again for nothing."""
    import gc

    gc.disable()


def read_policy(policy: Path | None, pool: str | None) -> PlanPolicy:
    """Return the policy of a file, of a pool alone, or of a file with another pool."""
    from addressing.policyfile import default_policy, read_plan_policy, replace_pool
    from inventory.errors import ExtranetError

    if policy is None and pool is None:
        raise ExtranetError(
            "--pool: expected the block to divide, like --pool 3fff:329::/36; or --policy FILE that names it"
        )
    if policy is None:
        return default_policy(pool or "")
    found = read_plan_policy(policy)
    return found if pool is None else replace_pool(found, pool)


def plan_hierarchy(
    divisions: Path,
    *,
    root: str | None,
    pool: str | None,
    policy: Path | None,
    out: Path | None,
    file_format: str,
    as_json: bool,
) -> None:
    """Plan a hierarchy of divisions from nothing, and write it with its certificate; to standard output without `out`."""
    from addressing.budget import lay_out
    from addressing.divisions import read_divisions
    from addressing.hierarchy import plan_divisions
    from addressing.hierarchyfile import dump_csv, dump_json
    from inventory.errors import ExtranetError
    from inventory.files import check_writable

    rest_collector()
    file_format = file_format or ("json" if out is not None and out.suffix == ".json" else "csv")
    if out is None and as_json:
        raise ExtranetError("--json: what was written goes to --out FILE; name one")
    if out is not None:
        check_writable(out, make_folders=True)
    progress = Progress(quiet=as_json)
    decided = read_policy(policy, pool)
    found = read_divisions(divisions, root)
    layout, budget = lay_out(found, decided)
    plan = plan_divisions(found, decided, layout)
    if out is None:
        dump = {"csv": dump_csv, "json": dump_json}.get(file_format)
        sys.stdout.flush()
        sys.stdout.buffer.write(dump(plan) if dump else export_one(plan, file_format))
        sys.stdout.buffer.flush()
        return
    if file_format not in PLAN_FORMATS:
        from addressing.exports.output import write_export

        content = export_one(plan, file_format) if out.suffix else export(plan, file_format)
        write_export(out, content, file_format)
        if as_json:
            print_json({"file": str(out), "format": file_format, "rows": len(plan)})
        else:
            words = f"{counted(len(plan), 'division')} as {file_format}; keep the plan itself as csv or json as well"
            console().print(f"{out}: {words}")
        return
    with holding(out):
        certificate = keep(plan, out, file_format, said=divisions)
    report_plan(plan, budget, certificate, out, as_json=as_json)
    progress.say("")


def export_one(plan: HierarchyPlan, name: str) -> bytes:
    """Return a plan in one of the exports' forms, as one file: of several the one of prefixes."""
    from inventory.errors import ExtranetError

    content = export(plan, name)
    if isinstance(content, dict):
        prefixes = next((text for file, text in content.items() if file.endswith("prefixes.csv")), None)
        if prefixes is None:
            raise ExtranetError(f"--format {name}: makes {counted(len(content), 'file')}; name a folder with --out")
        content = prefixes
    return content.encode() if isinstance(content, str) else content


def export(plan: HierarchyPlan, name: str) -> Content:
    """Return a plan in one of the exports' forms."""
    from addressing.exports import EXPORTS, ExportOptions
    from inventory.errors import UnknownNameError

    if name not in EXPORTS:
        raise UnknownNameError(
            "format", name, [*PLAN_FORMATS, *EXPORTS], where="the formats", see="extranet plan export --formats"
        )
    return EXPORTS[name].write(plan, ExportOptions())


def keep(
    plan: HierarchyPlan,
    out: Path,
    file_format: str,
    *,
    said: Path,
    base: str = "",
    origin: str = "",
    replaces: str = "",
) -> dict[str, Any]:
    """Write a plan after an independent check; no other plan is written over than the one of the digest `replaces`.

    Were somebody else's next version written over, what was new in it would be given again to others.

    Raises:
        GateRefusedError: another plan is there.
        CheckFailedError: the checker found something; nothing was written.
    """
    from addressing.checker import check_plan_file, sign_off
    from addressing.hierarchyfile import write_hierarchy
    from inventory.errors import CheckFailedError, ExtranetError, GateRefusedError

    ending = out.suffix.removeprefix(".")
    if ending in PLAN_FORMATS and ending != file_format:
        raise ExtranetError(f"--out {out}: ends in .{ending}, the format is {file_format}; let them agree")

    def sign(staged: Path, certificate: dict[str, Any]) -> dict[str, Any]:
        if out.exists() and digest_of(out) not in {certificate["sha256"], replaces}:
            raise GateRefusedError(
                f"{out}: another plan is there, and its addresses may be in use; carry it on with 'extranet plan update "
                f"--plan {out} --divisions {said} --out {out}', or name another file"
            )
        report = check_plan_file(staged, certificate)
        if not report.ok:
            raise CheckFailedError(f"{out}: not written, the checker found: " + "; ".join(report.failures[:5]))
        return {**certificate, "checks": sign_off(report)}

    return write_hierarchy(plan, out, file_format=file_format, base=base, origin=origin, sign_off=sign)


def report_plan(plan: HierarchyPlan, budget: Budget, certificate: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Say what was planned, with the table that explains the widths."""
    from addressing.budget import describe_budget

    if as_json:
        print_json(
            {
                "file": str(out),
                "version": plan.version,
                "digest": certificate["sha256"],
                "counts": certificate["counts"],
                "checks": certificate["checks"],
                "levels": [f.model_dump(mode="json") for f in plan.layout.fields],
            }
        )
        return
    screen = console()
    pools = ", ".join(map(str, plan.layout.pools))
    screen.print(f"[bold]{out}[/]: {counted(len(plan), 'division')} from {pools}; digest {certificate['sha256'][:16]}")
    print_rows(describe_budget(budget, "en"))
    good = sum(1 for c in certificate["checks"] if c["ok"])
    screen.print(f"signed off by the independent checker: {good} of {len(certificate['checks'])} checks good")


def print_rows(rows: list[tuple[str, ...]]) -> None:
    """Print rows as a table, the first as its head."""
    from rich.markup import escape
    from rich.table import Table

    head, *body = rows
    table = Table(*map(escape, head), box=None, pad_edge=False, header_style="bold")
    for row in body:
        table.add_row(*map(escape, row))
    console().print(table)


@boundary
def update(
    divisions: Annotated[Path, typer.Option(help="The new list of divisions.")],
    plan: Annotated[Path, typer.Option(help="The plan to carry on.")],
    out: Annotated[Path, typer.Option(help="Where the plan's next version goes; may be the plan itself.")],
    root: Annotated[
        str | None, typer.Option(help="Only what lies under this code (default: the plan's own root).")
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="What a person decided where a match is not certain (see 'docs/planner.md').")
    ] = None,
    *,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Take a plan without its certificate as it is: what is missing in it is lost."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Carry a plan on to a new list of divisions: nobody is renumbered, and it is proven.

    Reports what was kept, renamed, re-coded, moved, merged, split, new and gone; what is gone is quarantined. Where a
    match is not certain nothing is written (exit 3): the questions are printed, to be answered in a decisions file.
    """
    from addressing.divisions import read_divisions
    from addressing.hierarchy import continue_plan
    from addressing.hierarchyfile import read_hierarchy
    from addressing.register import add_to_register, read_register
    from addressing.succession import prove_unmoved, read_decisions, trace
    from inventory.errors import CheckFailedError, GateRefusedError
    from inventory.files import check_writable

    rest_collector()
    check_writable(out, make_folders=True)
    plan, out = plan.resolve(), out.resolve()  # a link to a plan is that plan
    answered = read_decisions(decisions) if decisions else None
    asked = digest_of(plan) if plan.is_file() else ""
    with holding(plan, out):
        before, base = read_hierarchy(plan), digest_of(plan)
        if base != asked:
            raise GateRefusedError(
                f"{plan}: was carried on by somebody else meanwhile; look at what it is now, then run again"
            )
        own = read_certificate(plan, adopt=adopt)
        origin = str(own.get("origin") or own["sha256"])
        found = read_divisions(divisions, root or own_root(before))
        traced = trace(before, found, answered)
        if traced.questions:
            show_questions(traced, out, as_json=as_json)
            raise typer.Exit(3)
        claims = read_register(plan.parent, origin) | read_register(out.parent, origin)
        after = continue_plan(before, found, traced.fate, claims)
        proof = prove_unmoved(before, after)
        if not proof.ok:
            raise CheckFailedError(f"{out}: not written: " + "; ".join(proof.failures[:5]))
        if after is before and out == plan:
            certificate = own
        else:
            for folder in {plan.parent, out.parent} if after is not before else ():
                add_to_register(folder, origin, before, after)
            file_format = "json" if out.suffix == ".json" else "csv"
            since = base if after is not before else str(own.get("base", ""))
            certificate = keep(after, out, file_format, said=divisions, base=since, origin=origin, replaces=base)
    show_update(traced, certificate, out, as_json=as_json)


def read_certificate(plan: Path, *, adopt: bool) -> dict[str, Any]:
    """Return the certificate of a plan; with `adopt`, a new one where there is none."""
    import json

    from addressing.hierarchyfile import find_certificate, make_certificate, read_hierarchy
    from inventory.errors import GateRefusedError

    content = plan.read_bytes()
    path = find_certificate(plan, content)
    if path is not None:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    if not adopt:
        raise GateRefusedError(
            f"{plan}: its certificate is gone, so nobody knows its policy, nor whether all its rows are there; put it back, "
            "or take the plan as it is with --adopt"
        )
    return make_certificate(read_hierarchy(plan), content, file=plan.name)


def digest_of(path: Path) -> str:
    """Return a file's sha256."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def own_root(plan: HierarchyPlan) -> str | None:
    """Return the code of a plan's own root, None for a forest."""
    import numpy as np

    if not plan.layout.root_level:
        return None
    rows = np.flatnonzero((plan.levels == plan.layout.root_level) & (plan.states == 0))
    return plan.codes[int(rows[0])] if rows.size else None


def show_questions(traced: Succession, out: Path, *, as_json: bool) -> None:
    """Print what a person must decide, and the template to decide in."""
    from addressing.succession import decisions_template

    template = decisions_template(traced)
    if as_json:
        print_json(
            {"written": False, "questions": [q.as_json() for q in traced.questions], "decisions_template": template}
        )
        return
    open_ones = counted(len(traced.questions), "match", "matches")
    complain(f"{out}: not written; {open_ones} not certain - decide in a file for --decisions, begun here:")
    sys.stdout.write(template)


def show_update(traced: Succession, certificate: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Say what an update did."""
    if as_json:
        print_json(
            {
                "written": True,
                "file": str(out),
                "version": certificate["version"],
                "digest": certificate["sha256"],
                "renumbered": 0,
                **traced.as_json(),
                "checks": certificate["checks"],
            }
        )
        return
    screen = console()
    screen.print(f"[bold]{out}[/]: version {certificate['version']}; digest {certificate['sha256'][:16]}")
    screen.print("  " + ", ".join(f"{n} {word}" for word, n in traced.counts.items()))
    for line in traced.lines()[:_SHOWN]:
        screen.print(f"    {line}", markup=False)
    if len(traced.lines()) > _SHOWN:
        screen.print(f"    ... and {len(traced.lines()) - _SHOWN} more (--json lists all)")
    screen.print("  proven: 0 renumbered, no prefix given twice, what is gone is quarantined")
