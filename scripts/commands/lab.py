"""`extranet lab`: the county on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from inventory.wording import counted
from scripts.commands._shell import HERE, AsJson, CountyDir, Progress, boundary, complain, console, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from addressing.model import AddressPlan
    from inventory.model import County
    from lab.faults import Alteration, Faults, What
    from lab.state import Cable, LabState

app = typer.Typer(no_args_is_help=True)
fault = typer.Typer(no_args_is_help=True)
app.add_typer(fault, name="fault", help="Break something on purpose, and mend it.")
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="A router, station or server.")]
LineName = Annotated[
    str, typer.Argument(metavar="LINK", help="A circuit (all its links), or one link (CIRCUIT/PLANE).")
]
UnitName = Annotated[str, typer.Argument(metavar="UNIT", help="The unit, `network@site`, on whose old line it sits.")]
PlaneName = Annotated[str | None, typer.Option("--plane", help="Only in this plane's VRF of a router.")]


@app.callback()
def group() -> None:
    """The county on this machine: real routers, stations and services."""


@fault.callback()
def fault_group() -> None:
    """Break something on purpose, and mend it."""


@app.command()
@boundary
def up(
    county: CountyDir = HERE,
    towns: Annotated[int | None, typer.Option(min=1, help="Only the first N towns, with their villages.")] = None,
    *,
    again: Annotated[bool, typer.Option("--again", help="Take a lab that is up down first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the county as it is before migration: routers, stations, servers, old lines."""
    from lab import boot, kernel

    kernel.check_machine()
    found, plan = _county_and_plan(county)
    progress = Progress(quiet=as_json)

    def show(now: boot.Progress) -> None:
        waiting = f", waiting for {now.waiting_for}" if now.waiting_for else ""
        if now.total > 1:
            progress.tick(now.done, now.total, f"{now.phase}{waiting}")
        elif not now.done:
            progress.say(f"· {now.phase} …")

    try:
        state = boot.up(found, plan, county, towns, show, again=again)
    except KeyboardInterrupt:
        complain("interrupted; the lab was taken down again and nothing is left")
        raise typer.Exit(4) from None
    seconds = sum(t.seconds for t in state.timings)
    if as_json:
        print_json(
            {
                "name": state.name,
                "nodes": len(state.nodes) - 1,
                "seconds": round(seconds, 2),
                "timings": [t.model_dump() for t in state.timings],
                "vrf_backend": state.facts.vrf_backend,
                "management": str(state.prefix),
                "access": f"{state.county_dir}/.lab/access.yaml",
            }
        )
        return
    screen = console()
    phases = ", ".join(f"{t.phase} {t.seconds:.1f}" for t in state.timings)
    screen.print(f"[bold]lab {state.name}[/]: {_count(state)} up in {seconds:.1f} s ({phases})")
    backend = "VRF devices" if state.facts.vrf_devices else "one namespace each (this kernel has no VRF devices)"
    screen.print(f"VRFs: {backend}; management {state.prefix}; access: {county / '.lab/access.yaml'}")


@app.command("status")
@boundary
def show_status(county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Show what is up, what is missing and which faults are in force. Exit 1 when a node is not as it should be."""
    from lab.status import status

    now = status(county)
    if as_json:
        print_json(now.model_dump(mode="json"))
    else:
        from rich.table import Table

        table = Table(title=f"lab {now.name}", title_justify="left")
        for heading in ("kind", "nodes", "up", "memory"):
            table.add_column(heading, justify="left" if heading == "kind" else "right")
        for kind in ("router", "station", "server"):
            some = [n for n in now.nodes if n.kind == kind]
            good = sum(n.state == "up" for n in some)
            table.add_row(kind, str(len(some)), str(good), f"{sum(n.memory_bytes for n in some) / 2**20:.0f} MiB")
        screen = console()
        screen.print(table)
        backend = "VRF devices" if now.kernel.vrf_devices else "VRFs in namespaces"
        memory = f"{now.memory_bytes / 2**20:.0f} MiB in all"
        screen.print(f"kernel {now.kernel.release}: {backend}; management {now.management}; {memory}")
        for node in now.nodes:
            if node.state != "up":
                missing = f" (no {', '.join(node.missing)})" if node.missing else ""
                screen.print(f"[red]{node.name}[/]: {node.state}{missing}")
        for line in _fault_lines(now.faults):
            screen.print(f"[yellow]fault[/]: {line}")
    if not now.healthy:
        raise typer.Exit(1)


@app.command("exec")
@boundary
def execute(
    node: NodeName,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="What to run there.")],
    county: CountyDir = HERE,
    *,
    plane: PlaneName = None,
    as_json: AsJson = False,
) -> None:
    """Run a command inside a node: exec NODE [--plane PLANE] -- CMD. Its exit code is this command's.

    A command that signal N ends gives 128+N, as in a shell.
    """
    from lab.nodes import exec_in, shell_code
    from lab.state import read_state

    state = read_state(county)
    done = exec_in(state, node, command, plane=plane, capture=as_json)
    code = shell_code(done.returncode)
    if as_json:
        print_json({"node": node, "plane": plane, "exit_code": code, "stdout": done.stdout, "stderr": done.stderr})
    raise typer.Exit(code)


@app.command()
@boundary
def down(
    county: CountyDir = HERE,
    *,
    name: Annotated[str | None, typer.Option(help="A lab's name, when its county folder is gone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take the lab down and leave nothing behind; also after a kill. Its record in the county's folder stays.

    Exit 0 also when the county's lab is down already, which is said; 2 when there is no such lab, or no such county.
    """
    from inventory.errors import ExtranetError
    from lab import boot

    removed = boot.down(county if name is None else name)
    if not removed.anything and not (county / "county.yaml").is_file():
        raise ExtranetError(
            f"{county.resolve()}: no lab of this folder is up, and no county is in it; name one with --county"
        )
    if as_json:
        print_json(removed.model_dump(mode="json"))
    elif removed.anything:
        console().print(f"lab down: {counted(removed.nodes, 'node')} and all their links and files are gone")
    else:
        console().print("no lab of this county is up: nothing left to do")


@fault.command()
@boundary
def cut(line: LineName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Cut a line: both ends lose their carrier.

    Example: extranet lab fault cut fin-l-chengguan
    """
    from lab import faults

    _say_cables("cut", faults.cut(_state(county), line), line, as_json=as_json)


@fault.command()
@boundary
def restore(line: LineName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Mend a line that was cut.

    Example: extranet lab fault restore fin-l-chengguan
    """
    from lab import faults

    _say_cables("restored", faults.restore(_state(county), line), line, as_json=as_json)


@fault.command()
@boundary
def stop(node: NodeName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Power a node off. What it had not saved is lost.

    Example: extranet lab fault stop chengguan-wabei-station
    """
    from lab import faults

    faults.stop(_state(county), node)
    _say({"stopped": node}, f"{node}: stopped", as_json=as_json)


@fault.command()
@boundary
def start(node: NodeName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Power a stopped node on.

    Example: extranet lab fault start chengguan-wabei-station
    """
    from lab import faults

    faults.start(_state(county), node)
    _say({"started": node}, f"{node}: started from its saved configuration", as_json=as_json)


@fault.command()
@boundary
def drop(
    node: NodeName,
    what: Annotated[str, typer.Option(help="icmp, tcp, udp, ipv6 or icmp-too-big.")],
    county: CountyDir = HERE,
    *,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Only this TCP or UDP port.")] = None,
    plane: PlaneName = None,
    as_json: AsJson = False,
) -> None:
    """Drop packets of one kind in a node; management is spared.

    Example: extranet lab fault drop chengguan-center --what tcp --port 1521
    """
    from lab import faults

    kind = _kind(what)
    made = faults.drop(_state(county), node, kind, port=port, plane=plane)
    where = ", ".join(d.plane for d in made if d.plane) or "all"
    _say(
        [d.model_dump(mode="json") for d in made],
        f"{node}: drops {what}{f' port {port}' if port else ''} in {where}",
        as_json=as_json,
    )


@fault.command()
@boundary
def undrop(
    node: NodeName,
    county: CountyDir = HERE,
    *,
    what: Annotated[str | None, typer.Option(help="Only this kind (default: all).")] = None,
    plane: PlaneName = None,
    as_json: AsJson = False,
) -> None:
    """Stop dropping packets in a node.

    Example: extranet lab fault undrop chengguan-center
    """
    from lab import faults

    kind = _kind(what) if what else None
    gone = faults.undrop(_state(county), node, kind, plane=plane)
    _say([d.model_dump(mode="json") for d in gone], f"{node}: {counted(len(gone), 'drop')} taken away", as_json=as_json)


@fault.command()
@boundary
def lean(
    service: Annotated[str, typer.Argument(help="A TCP service of a department, such as finance-pay.")],
    line: Annotated[str, typer.Argument(metavar="CIRCUIT", help="A town's old line of the same department.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a service fetch its answers over an old line: nothing shows it while the line is up. After its county's cutover."""
    from lab import faults

    made = faults.lean(_state(county), _county_and_plan(county)[0], service, line)
    _say(made.model_dump(mode="json"), f"{service}: answers come from {made.router} over {line}", as_json=as_json)


@fault.command()
@boundary
def unlean(service: str, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Have a service that leans on an old line answer by itself again."""
    from lab import faults

    gone = faults.unlean(_state(county), service)
    _say(gone.model_dump(mode="json"), f"{service}: answers by itself again", as_json=as_json)


@fault.command("kill-ssh")
@boundary
def kill_ssh(node: NodeName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Kill a node's SSH sessions; what they started goes on.

    Example: extranet lab fault kill-ssh chengguan-center
    """
    from lab import faults

    killed = faults.kill_ssh(_state(county), node)
    _say({"node": node, "killed": killed}, f"{node}: {counted(killed, 'SSH session')} killed", as_json=as_json)


@fault.command()
@boundary
def mtu(
    line: LineName,
    size: Annotated[int, typer.Argument(metavar="BYTES", min=576, max=9000, help="The largest packet it carries.")],
    county: CountyDir = HERE,
    *,
    silently: Annotated[
        bool, typer.Option("--silently", help="Only its far end is narrow: larger packets vanish in silence.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Narrow a line: larger packets are refused, or with --silently vanish.

    Example: extranet lab fault mtu x-chengguan-core1 1300 --silently
    """
    from lab import faults

    _say_alteration(faults.narrow(_state(county), line, size, silently=silently), as_json=as_json)


@fault.command()
@boundary
def slow(
    line: LineName,
    kbps: Annotated[int, typer.Argument(metavar="KBPS", min=64, help="What it carries, in kbit/s.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Slow a line down.

    Example: extranet lab fault slow x-chengguan-core1 512
    """
    from lab import faults

    _say_alteration(faults.slow(_state(county), line, kbps), as_json=as_json)


@fault.command()
@boundary
def detour(
    node: NodeName,
    network: Annotated[str, typer.Argument(help="The prefix that is routed elsewhere.")],
    via: Annotated[str, typer.Argument(help="The neighbour it is routed to.")],
    county: CountyDir = HERE,
    *,
    plane: PlaneName = None,
    as_json: AsJson = False,
) -> None:
    """Route a network by another neighbour: a server that answers over the old line, a route forgotten in a core.

    Example: extranet lab fault detour srv-realestate 192.168.47.0/24 192.168.40.254
    """
    from lab import faults

    _say_alteration(faults.detour(_state(county), node, network, via, plane=plane), as_json=as_json)


@fault.command()
@boundary
def leak(
    node: NodeName,
    one: Annotated[str, typer.Argument(help="A plane.")],
    other: Annotated[str, typer.Argument(help="Another plane.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Leak the routes of two planes into each other in a router.

    Example: extranet lab fault leak core1 finance hrss
    """
    from lab import faults

    _say_alteration(faults.leak(_state(county), node, one, other), as_json=as_json)


@fault.command()
@boundary
def backend(
    server: NodeName,
    service: Annotated[str, typer.Argument(help="The service.")],
    marker: Annotated[str, typer.Argument(help="What answers in its place.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Let another back end answer behind a service's port.

    Example: extranet lab fault backend srv-finance finance other
    """
    from lab import faults

    _say_alteration(faults.answer_wrongly(_state(county), server, service, marker), as_json=as_json)


@fault.command()
@boundary
def certificate(
    server: NodeName,
    service: Annotated[str, typer.Argument(help="The service.")],
    other_server: Annotated[str, typer.Argument(help="The server that has the other service.")],
    other: Annotated[str, typer.Argument(help="The service whose certificate is shown.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Let a service show the certificate of another.

    Example: extranet lab fault certificate srv-finance finance srv-hrss hrss
    """
    from lab import faults

    _say_alteration(faults.show_certificate(_state(county), server, service, other_server, other), as_json=as_json)


@fault.command("name")
@boundary
def old_name(
    server: NodeName,
    dns_name: Annotated[
        str, typer.Argument(metavar="NAME", help="The service's whole name, such as finance.yichuan.example.")
    ],
    address: Annotated[str, typer.Argument(help="What the name server says from now on.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Let the name server give another address for a name.

    Example: extranet lab fault name srv-dns finance.yichuan.example 10.20.8.99
    """
    from lab import faults

    _say_alteration(faults.answer_old(_state(county), server, dns_name, address), as_json=as_json)


@fault.command("resolver")
@boundary
def old_resolver(
    station: NodeName,
    plane: Annotated[str, typer.Argument(metavar="PLANE", help="The leg, by its plane.")],
    address: Annotated[str, typer.Argument(help="The name server that its configuration names from now on.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Let a station's leg be configured to ask another name server.

    Example: extranet lab fault resolver chengguan-center finance 10.20.0.53
    """
    from lab import faults

    _say_alteration(faults.ask_elsewhere(_state(county), station, plane, address), as_json=as_json)


@fault.command("hosts")
@boundary
def pinned_name(
    station: NodeName,
    dns_name: Annotated[str, typer.Argument(help="The name that it looks up nowhere else from now on.")],
    address: Annotated[str, typer.Argument(help="The address that its own table of hosts gives it.")],
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Let a station's own table of hosts say where a name is.

    Example: extranet lab fault hosts chengguan-center finance.yichuan.example 10.20.8.99
    """
    from lab import faults

    _say_alteration(faults.pin_name(_state(county), station, dns_name, address), as_json=as_json)


@fault.command()
@boundary
def mend(
    name: Annotated[str | None, typer.Argument(help="A fault as 'lab status' names it (default: all).")] = None,
    county: CountyDir = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Undo what mtu, slow, detour, leak, backend, certificate, name, resolver and hosts did.

    Example: extranet lab fault mend 'mtu x-chengguan-core1'
    """
    from lab import faults

    gone = faults.mend(_state(county), name)
    text = "\n".join(f"mended: {a.name}" for a in gone) or "nothing to mend"
    _say({"mended": [a.name for a in gone]}, text, as_json=as_json)


@fault.command()
@boundary
def flap(
    line: LineName,
    county: CountyDir = HERE,
    *,
    times: Annotated[int, typer.Option(min=1, max=100, help="How often it loses its carrier.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Let a line lose and find its carrier a few times; it is up at the end.

    Example: extranet lab fault flap rea-l-chengguan
    """
    from lab import faults

    _say_cables("flapped", faults.flap(_state(county), line, times=times), line, as_json=as_json)


@fault.command()
@boundary
def stowaway(unit: UnitName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Plug in a host that no table names where a unit's old line still serves it: it keeps talking over the line.

    Example: extranet lab fault stowaway real-estate@chengguan
    """
    from lab import faults
    from lab.stowaways import PORT

    found = faults.stow(_state(county), unit)
    where = f"{found.router} port {PORT}" if found.router else f"the county's LAN, by {found.hub}"
    _say(found.model_dump(mode="json"), f"{unit}: {found.address} sits at {where}, and talks", as_json=as_json)


@fault.command()
@boundary
def unstow(unit: UnitName, county: CountyDir = HERE, *, as_json: AsJson = False) -> None:
    """Take a unit's stowaway out again.

    Example: extranet lab fault unstow real-estate@chengguan
    """
    from lab import faults

    gone = faults.unstow(_state(county), unit)
    _say(
        {"unit": unit, "gone": gone}, f"{unit}: {'its stowaway is gone' if gone else 'nothing to do'}", as_json=as_json
    )


def _say_alteration(made: Alteration, *, as_json: bool) -> None:
    _say(
        {"fault": made.name, "means": made.words},
        f"{made.words}; undo with: lab fault mend '{made.name}'",
        as_json=as_json,
    )


def _state(county: Path) -> LabState:
    from lab.state import read_state

    return read_state(county)


def _kind(what: str) -> What:
    from inventory.errors import UnknownNameError
    from lab.faults import What

    try:
        return What(what)
    except ValueError:
        raise UnknownNameError("--what", what, [w.value for w in What], listed=True) from None


def _county_and_plan(county_dir: Path) -> tuple[County, AddressPlan]:
    """The whole county and its plan: the one on file, else the one that would be written."""
    from addressing.plan import make_plan
    from addressing.planfile import plan_path, read_plan
    from inventory.reader import load_county
    from inventory.topology import build_topology

    county = load_county(county_dir)
    path = plan_path(county_dir)
    before = read_plan(path) if path.exists() else None
    return county, make_plan(county, build_topology(county), before)


def _count(state: LabState) -> str:
    kinds = [n.kind for n in state.nodes]
    return ", ".join(counted(kinds.count(kind), kind) for kind in ("router", "station", "server"))


def _fault_lines(faults: Faults) -> list[str]:
    lines = [f"{c.cable.link} is cut" for c in faults.cuts]
    lines += [f"{name} is stopped" for name in faults.stopped]
    lines += [f"{one.service} leans on {one.router}" for one in faults.leans]
    lines += [f"a stranger, {s.address}, talks over the old line of {s.unit}" for s in faults.stowaways]
    lines += [f"{a.words} ({a.name})" for a in faults.alterations]
    for d in faults.drops:
        lines.append(
            f"{d.node} drops {d.what.value}{f' port {d.port}' if d.port else ''}{f' in {d.plane}' if d.plane else ''}"
        )
    return lines


def _say_cables(verb: str, cables: tuple[Cable, ...], line: str, *, as_json: bool) -> None:
    links = [c.link for c in cables]
    text = f"{verb}: {', '.join(links)}" if links else f"{line}: nothing to do"
    _say({verb: links}, text, as_json=as_json)


def _say(value: object, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        console().print(text)
