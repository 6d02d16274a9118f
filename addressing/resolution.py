"""What to do about each cluster of overlaps, at the least total cost, and why.

Each department of a cluster gets one treatment: it keeps its addresses, apart in a VRF of its own; it is renumbered; its
blocks are translated both ways (twice NAT, RFC 3022 and RFC 2663 4.3) one to one into parts of a stated pool; or it goes
IPv6-only and reaches IPv4 by NAT64 (RFC 6146). Two departments that meet in a cluster and must talk cannot both keep
their addresses, so those that change are a vertex cover of the pairs that must talk, and the cheapest is sought: exactly
by branch and bound, which ends at once for the few departments of a usual cluster; where its steps run out, the best
found so far stands, beside a bound below which no solution is (the dual of Bar-Yehuda and Even's local ratio).

Costs are person-hours: `once` for a department that takes a treatment anywhere, and by cluster for each of its blocks,
hosts, rules and services. While choosing, `once` is shared evenly among a department's clusters, which never overstates
what any choice costs: the sum of the clusters' bounds is a bound of the total, in which `once` counts whole.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from math import inf, isinf
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field, ValidationError, model_validator

from addressing.leaks import problems_of
from addressing.overlaps import Cluster, Overlaps, find_meeting_departments
from addressing.prefixtables import Block, Claim, problem, read_text
from addressing.text import BITS, Prefix, parse_prefix
from inventory.errors import InputProblemsError, Problem
from inventory.model import Model
from inventory.yamlfile import YamlProblemError, parse_yaml

Action = Literal["keep", "renumber", "nat", "ipv6"]
ACTIONS: tuple[Action, ...] = get_args(Action)
CHANGES: tuple[Action, ...] = ("renumber", "nat", "ipv6")
Reason = Literal["alone", "partners-change", "must-talk", "cheaper", "unresolved"]
Language = Literal["en", "zh"]
_Hours = Annotated[float, Field(ge=0.0, le=1e6)]
_EPSILON = 1e-9
_NAMED = 4
"""Partners that a sentence names."""


class ActionCost(Model):
    """What a treatment costs, in person-hours."""

    once: _Hours = Field(0.0, description="once for a department, wherever it takes this treatment")
    block: _Hours = Field(0.0, description="for each of its blocks in the cluster")
    host: _Hours = Field(0.0, description="for each host in them")
    rule: _Hours = Field(0.0, description="for each rule (firewall, route filter) that names them")
    service: _Hours = Field(0.0, description="for each service in them that other departments use")


class DepartmentFacts(Model):
    """What is known of a department as a whole; its rules and services are spread evenly over its clusters."""

    rules: int = Field(0, ge=0, description="rules that name its addresses, where the prefix lists do not say")
    services: int = Field(0, ge=0, description="its services that other departments use, likewise")
    actions: tuple[Action, ...] = Field(ACTIONS, min_length=1, description="treatments that it may be given")


class CostModel(Model):
    """What a planner decides about costs; everything has a default."""

    keep: ActionCost = Field(ActionCost(once=4.0, block=0.1), description="own VRF, route filters, documents")
    renumber: ActionCost = Field(
        ActionCost(once=8.0, block=1.0, host=0.5, rule=0.25, service=8.0), description="new addresses from the plan"
    )
    nat: ActionCost = Field(
        ActionCost(once=24.0, block=1.0, rule=0.5, service=6.0), description="twice NAT: gateway, mappings, DNS, logs"
    )
    ipv6: ActionCost = Field(
        ActionCost(once=40.0, block=1.0, host=0.2, rule=0.25, service=4.0), description="IPv6-only hosts and NAT64"
    )
    nat_pool: IPv4Network = Field(IPv4Network("100.96.0.0/11"), description="what NAT maps blocks into, one to one")
    assumed_use: float = Field(0.25, ge=0.0, le=1.0, description="share of a block in use where no hosts are given")
    assumed_most: int = Field(100, ge=0, description="hosts assumed in a block at most")
    actions: tuple[Action, ...] = Field(ACTIONS, min_length=1, description="treatments that may be given at all")
    talk: tuple[tuple[str, str], ...] = Field((), description="pairs of departments that must reach each other")
    departments: dict[str, DepartmentFacts] = Field(default_factory=dict, description="facts by department")
    search_steps: int = Field(
        20_000, ge=1, description="pairs that the exact search of a cluster may look at before its bound is used"
    )

    @model_validator(mode="before")
    @classmethod
    def _say_only_what_differs(cls, values: Any) -> Any:
        """Keep the defaults of a treatment's costs that are not named: `renumber: {host: 1}` leaves the others alone."""
        if not isinstance(values, dict):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items() if name in ACTIONS}
        return {
            name: {**defaults[name].model_dump(), **given} if name in defaults and isinstance(given, dict) else given
            for name, given in values.items()
        }

    def cost(self, action: Action) -> ActionCost:
        """Return a treatment's costs."""
        costs: dict[Action, ActionCost] = {
            "keep": self.keep,
            "renumber": self.renumber,
            "nat": self.nat,
            "ipv6": self.ipv6,
        }
        return costs[action]


class Stake(NamedTuple):
    """What a department has in a cluster: its widest blocks, and what a change would touch."""

    department: str
    blocks: tuple[Block, ...]
    hosts: int
    assumed: bool
    rules: float
    services: float


@dataclass(frozen=True)
class Choice:
    """A department's treatment in a cluster. `hours` and `options` hold its share of `once`.

    `options` has None where a treatment cannot be had; `partners` are the departments it must reach that meet it here;
    `mapping` says what NAT maps each block to. `action` is None when nothing that may be done helps.
    """

    department: str
    action: Action | None
    hours: float
    options: Mapping[Action, float | None]
    reason: Reason
    partners: tuple[str, ...]
    stake: Stake
    mapping: tuple[tuple[Block, Prefix], ...] = ()


@dataclass(frozen=True)
class Resolution:
    """What is done about a cluster: a choice for each department. No solution costs less than `lower` hours."""

    cluster: Cluster
    choices: tuple[Choice, ...]
    hours: float
    lower: float

    @property
    def exact(self) -> bool:
        """Whether it is known to be the cheapest."""
        return self.hours <= self.lower + 1e-6

    @property
    def resolved(self) -> bool:
        """Whether every department could be helped."""
        return all(c.action for c in self.choices)


@dataclass(frozen=True)
class Resolutions:
    """What is done about all clusters. `hours` counts `once` whole; no solution of them all costs less than `lower`."""

    each: tuple[Resolution, ...]
    hours: float
    lower: float

    @property
    def resolved(self) -> bool:
        """Whether every cluster is."""
        return all(r.resolved for r in self.each)

    def actions(self) -> Mapping[str, int]:
        """Return how many departments, cluster by cluster, get each treatment (`none`: no way out)."""
        return Counter(c.action or "none" for r in self.each for c in r.choices)


def read_costs(path: Path) -> CostModel:
    """Read a cost model from YAML; every problem comes at once.

    Raises:
        InputProblemsError: the file is missing, no YAML, or says what cannot be.
    """
    problems: list[Problem] = []
    text = read_text(path, problems)
    try:
        if text is not None:
            return CostModel.model_validate(parse_yaml(text) or {})
    except YamlProblemError as error:
        problems.append(problem(str(path), error.row, error.what, "correct the YAML"))
    except ValidationError as error:
        problems += problems_of(str(path), error)
    raise InputProblemsError(problems)


def talking_pairs(claims: Iterable[Claim], costs: CostModel) -> frozenset[tuple[str, str]]:
    """Return the pairs that must talk, names in order, as the cost model and the prefix lists' `talks_to` say."""
    said = {*costs.talk, *((c.department, other) for c in claims for other in c.talks_to)}
    return frozenset((min(pair), max(pair)) for pair in said if pair[0] != pair[1])


def resolve_clusters(
    overlaps: Overlaps,
    costs: CostModel,
    *,
    talk: Collection[tuple[str, str]] = (),
    occupied: Iterable[Block] = (),
) -> Resolutions:
    """Choose a treatment for each department of each cluster.

    `talk` names pairs of departments that must reach each other (names in order), `occupied` blocks that NAT must not
    map into, beside the members' own.
    """
    wanted = frozenset(talk)
    in_use = [*occupied, *(m.block for m in overlaps.members)]
    pool = _Pool.free_of(costs.nat_pool, in_use)
    shares = Counter(d for c in overlaps.clusters for d in c.departments)
    cases = [_Case(overlaps, c, costs, shares=shares, talk=wanted, pool=pool) for c in overlaps.clusters]
    done: dict[int, Resolution] = {}
    # The pool goes first to where it saves most an address; whoever needs none of it comes last, and loses nothing.
    for case in sorted(cases, key=lambda c: (-c.saved_by_address, c.cluster.number)):
        done[case.cluster.number] = case.resolve(pool)
    each = tuple(done[c.number] for c in overlaps.clusters)
    once: dict[tuple[str, Action], float] = {}
    spread = 0.0
    for choice in (c for r in each for c in r.choices):
        if choice.action:
            full = costs.cost(choice.action).once
            once[choice.department, choice.action] = full
            spread += full / shares[choice.department]
    hours = sum(r.hours for r in each) - spread + sum(once.values())
    return Resolutions(each, hours, sum(r.lower for r in each))


_ACTION_WORDS: dict[Language, dict[Action, tuple[str, str]]] = {
    "en": {
        "keep": ("keeps its addresses, apart in its own VRF", "own VRF"),
        "renumber": ("is renumbered", "renumbering"),
        "nat": ("is translated both ways (twice NAT)", "twice NAT"),
        "ipv6": ("goes IPv6-only, with NAT64", "IPv6 with NAT64"),
    },
    "zh": {
        "keep": ("保留原地址，用独立VRF隔离", "VRF隔离"),
        "renumber": ("重新编址", "重新编址"),
        "nat": ("双向地址转换（twice NAT）", "双向NAT"),
        "ipv6": ("改为纯IPv6，经NAT64互通", "IPv6加NAT64"),
    },
}


def name_action(action: Action | None, language: Language = "en") -> str:
    """Return a treatment's short name."""
    if action is None:
        return "none" if language == "en" else "无法解决"
    return _ACTION_WORDS[language][action][1]


def explain_choice(choice: Choice, language: Language = "en") -> str:
    """Return in one sentence what is done with a department in a cluster, why, and what else would have cost."""
    others = [
        f"{name_action(a, language)} "
        + (f"{h:.1f}" if h is not None else ("not possible" if language == "en" else "不可行"))
        for a, h in choice.options.items()
        if a != choice.action
    ]
    partners, more = list(choice.partners[:_NAMED]), len(choice.partners) - _NAMED
    if language == "zh":
        who = "、".join(partners) + (f"等{len(choice.partners)}个部门" if more > 0 else "")
        why = {
            "alone": "在本组内无需与其他部门互通",
            "partners-change": f"需互通的{who}已改造",
            "must-talk": f"须与{who}互通，所得最省方案由其改造",
            "cheaper": "比保留原地址更省",
            "unresolved": f"须与{who}互通，但没有允许的办法" if who else "没有允许的办法",
        }[choice.reason]
        assumed = "，主机数为估计" if choice.stake.assumed else ""
        if choice.action is None:
            return f"{choice.department}：无法解决：{why}；各办法工时：{'，'.join(others)}"
        what = _ACTION_WORDS[language][choice.action][0]
        return f"{choice.department}：{what}（{choice.hours:.1f}工时{assumed}）：{why}；未选：{'，'.join(others)}"
    who = ", ".join(partners) + (f" and {more} more" if more > 0 else "")
    why = {
        "alone": "it must reach nobody that it meets here",
        "partners-change": f"{who}, which it must reach, change instead",
        "must-talk": f"it must reach {who}, and the cheapest way found has it change",
        "cheaper": "that costs less than keeping its addresses",
        "unresolved": (f"it must reach {who}, and " if who else "") + "nothing that may be done helps",
    }[choice.reason]
    assumed = ", hosts assumed" if choice.stake.assumed else ""
    if choice.action is None:
        return f"{choice.department} cannot be helped: {why}; hours: {', '.join(others)}"
    what = _ACTION_WORDS[language][choice.action][0]
    return f"{choice.department} {what} ({choice.hours:.1f} h{assumed}): {why}; not chosen: {', '.join(others)}"


class _Case:
    """One cluster: what is at stake for whom, who must talk to whom, and what each treatment would cost."""

    def __init__(
        self,
        overlaps: Overlaps,
        cluster: Cluster,
        costs: CostModel,
        *,
        shares: Mapping[str, int],
        talk: frozenset[tuple[str, str]],
        pool: _Pool,
    ) -> None:
        self.cluster, self.costs, self.shares = cluster, costs, shares
        claims: dict[str, list[Claim]] = {d: [] for d in cluster.departments}
        members = overlaps.members_of(cluster)
        for member in members:
            claims[member.department].append(member)
        self.stakes = {d: self._stake(d, c) for d, c in claims.items()}
        met = find_meeting_departments(members) if talk else {}
        self.edges = [(a, b) for a in sorted(met) for b in sorted(met[a]) if a < b and (a, b) in talk]
        self.partners: dict[str, list[str]] = {d: [] for d in cluster.departments}
        for a, b in self.edges:
            self.partners[a].append(b)
            self.partners[b].append(a)
        # What could be had if nobody else took from the pool: the bound of this choice is true whoever does.
        self.options = {d: self._options(d, nat=pool.holds_all(s.blocks)) for d, s in self.stakes.items()}
        self.changing, self.lower = self._choose(self.options)
        self.saved_by_address = self._measure_saving()

    def _stake(self, department: str, claims: Sequence[Claim]) -> Stake:
        facts = self.costs.departments.get(department, DepartmentFacts())
        share = self.shares[department]
        widest, hosts, assumed = _count_hosts(claims, self.costs)
        said = [c.rules for c in claims if c.rules is not None]
        served = [c.services for c in claims if c.services is not None]
        return Stake(
            department,
            widest,
            hosts,
            assumed,
            rules=sum(said) if said else facts.rules / share,
            services=sum(served) if served else facts.services / share,
        )

    def _measure_saving(self) -> float:
        """Return how many hours NAT saves here for each address of the pool that it takes; 0 where it takes none."""
        taken = sum(
            1 << (BITS[4] - b.cover.length)
            for d in self.stakes
            if self._taken(d, self.options, self.changing) == "nat"
            for b in self.stakes[d].blocks
        )
        if not taken:
            return 0.0
        without = {d: {**mine, "nat": None} for d, mine in self.options.items()}
        _, other = self._choose(without)
        return (other - self.lower) / taken

    def resolve(self, pool: _Pool) -> Resolution:
        """Return the resolution, what NAT maps to taken out of the pool."""
        options, changing = dict(self.options), self.changing
        alone = [d for d, s in self.stakes.items() if options[d]["nat"] is not None and not pool.holds_all(s.blocks)]
        if any(self._taken(d, options, changing) == "nat" for d in alone):
            options |= {d: {**options[d], "nat": None} for d in alone}
            changing, _ = self._choose(options)
        while True:
            # NAT that no longer fits is struck out and the rest chosen again; the bound of the free choice stays true.
            left = pool.copy()
            mappings: dict[str, tuple[tuple[Block, Prefix], ...]] = {}
            short = None
            for department in sorted(self.stakes):
                if self._taken(department, options, changing) != "nat":
                    continue
                given = left.take_all(self.stakes[department].blocks)
                if given is None:
                    short = department
                    break
                mappings[department] = given
            if short is None:
                break
            options[short] = {**options[short], "nat": None}
            changing, _ = self._choose(options)
        pool.free = left.free
        choices = tuple(self._choice(d, options, changing, mappings.get(d, ())) for d in sorted(self.stakes))
        hours = sum(c.hours for c in choices)
        # Who could not be helped costs nothing here, so the bound may not count it either.
        return Resolution(self.cluster, choices, hours, min(self.lower, hours))

    def _options(self, department: str, *, nat: bool) -> dict[Action, float | None]:
        stake = self.stakes[department]
        facts = self.costs.departments.get(department, DepartmentFacts())
        out: dict[Action, float | None] = {}
        for action in ACTIONS:
            allowed = action in self.costs.actions and action in facts.actions
            # NAT and NAT64 are about IPv4; two that use one IPv6 block are renumbered.
            possible = self.cluster.outermost.version == 4 or action in {"keep", "renumber"}
            if not allowed or not possible or (action == "nat" and not nat):
                out[action] = None
                continue
            cost = self.costs.cost(action)
            out[action] = (
                cost.once / self.shares[department]
                + cost.block * len(stake.blocks)
                + cost.host * stake.hosts
                + cost.rule * stake.rules
                + cost.service * stake.services
            )
        return out

    def _choose(self, options: Mapping[str, Mapping[Action, float | None]]) -> tuple[frozenset[str], float]:
        """Return who changes, and the least that any choice costs."""
        names = sorted(self.stakes)
        keep = {d: _hours(options[d]["keep"]) for d in names}
        change = {d: min(_hours(options[d][a]) for a in CHANGES) for d in names}
        forced = {d for d in names if change[d] < keep[d]}
        base = sum(min(keep[d], change[d]) for d in names if not isinf(min(keep[d], change[d])))
        place = {d: i for i, d in enumerate(names)}
        weights = [change[d] - keep[d] if not isinf(keep[d]) else 0.0 for d in names]
        edges = [
            (place[a], place[b])
            for a, b in self.edges
            # What nobody can change is no reason for anybody: it is said to be unresolved.
            if not {a, b} & forced and not (isinf(change[a]) and isinf(change[b]))
        ]
        cover, bound = find_cover(weights, edges, self.costs.search_steps)
        return frozenset(forced | {names[i] for i in cover}), base + bound

    @staticmethod
    def _taken(
        department: str, options: Mapping[str, Mapping[Action, float | None]], changing: frozenset[str]
    ) -> Action | None:
        mine = options[department]
        may: tuple[Action, ...] = CHANGES if department in changing else ("keep",)
        open_ = [a for a in may if mine[a] is not None]
        if not open_:
            return None
        cheapest: Action = min(open_, key=lambda a: (_hours(mine[a]), ACTIONS.index(a)))
        return cheapest

    def _choice(
        self,
        department: str,
        options: Mapping[str, Mapping[Action, float | None]],
        changing: frozenset[str],
        mapping: tuple[tuple[Block, Prefix], ...],
    ) -> Choice:
        action = self._taken(department, options, changing)
        partners = tuple(sorted(self.partners[department]))
        mine, stake = options[department], self.stakes[department]
        stuck = department not in changing and any(p not in changing for p in partners)
        if action is None or stuck:
            return Choice(department, None, 0.0, mine, "unresolved", partners, stake)
        hours = _hours(mine[action])
        reason: Reason = "must-talk"
        if action == "keep":
            reason = "partners-change" if partners else "alone"
        elif hours < _hours(mine["keep"]):
            reason = "cheaper"
        return Choice(department, action, hours, mine, reason, partners, stake, mapping)


def _hours(cost: float | None) -> float:
    return inf if cost is None else cost


def _count_hosts(claims: Sequence[Claim], costs: CostModel) -> tuple[tuple[Block, ...], int, bool]:
    """Return a department's widest blocks in a cluster, the hosts in them, and whether some are assumed.

    A block's hosts are those it says or the sum of those within it, whichever is more; rows that name one block tell
    of the same hosts. Where nothing is told of a widest block, some are assumed. Claims are in address order.
    """
    said: dict[Block, int | None] = {}
    for claim in claims:
        held = said.get(claim.block)
        said[claim.block] = held if claim.hosts is None else max(held or 0, claim.hosts)
    widest: list[Block] = []
    total, assumed = 0, False
    stack: list[tuple[Block, int | None]] = []  # open blocks, and the hosts told of within each so far

    def close() -> None:
        nonlocal total, assumed
        block, within = stack.pop()
        told = [n for n in (said[block], within) if n is not None]
        if stack:
            outer, others = stack[-1]
            stack[-1] = (outer, max(told) + (others or 0) if told else others)
            return
        assumed |= not told
        total += max(told) if told else min(round(block.size * costs.assumed_use), costs.assumed_most)

    for block in said:
        while stack and stack[-1][0].last < block.last:
            close()
        if not stack:
            widest.append(block)
        stack.append((block, None))
    while stack:
        close()
    return tuple(widest), total, assumed


def find_cover(weights: Sequence[float], edges: Iterable[tuple[int, int]], steps: int) -> tuple[frozenset[int], float]:
    """Return a vertex cover of least weight, and a bound below which no cover weighs.

    The cover is the cheapest when its weight equals the bound; it is unless the search ran out of `steps` (edges
    looked at). Weights may be infinite for vertices that cannot be taken, as long as no edge joins two of them.
    """
    near = [0] * len(weights)
    for a, b in edges:
        if a != b:
            near[a] |= 1 << b
            near[b] |= 1 << a
    whole = sum(1 << v for v, others in enumerate(near) if others)
    graph = _Graph(weights, near)
    best = graph.prune(graph.cover_greedily(whole))
    best_weight = graph.weigh(best)
    root = max(graph.bound_by_edges(whole), graph.bound_by_cliques(whole))
    waiting = [(0, 0.0, whole)] if root < best_weight - _EPSILON else []
    while waiting:
        taken, weight, rest = waiting.pop()
        rest = graph.without_lone(rest)
        steps -= 1 + sum((near[v] & rest).bit_count() for v in _bits(rest)) // 2
        if steps < 0:
            return frozenset(_bits(best)), min(root, best_weight)
        if not rest:
            if weight < best_weight - _EPSILON:
                best, best_weight = taken, weight
            continue
        if weight + max(graph.bound_by_cliques(rest), graph.bound_by_edges(rest)) >= best_weight - _EPSILON:
            continue
        pivot = max(_bits(rest), key=lambda v: ((near[v] & rest).bit_count(), -v))
        for chosen in (near[pivot] & rest, 1 << pivot):
            added = graph.weigh(chosen)
            if not isinf(added):
                waiting.append((taken | chosen, weight + added, rest & ~chosen))
    return frozenset(_bits(best)), best_weight


def _bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Graph(NamedTuple):
    """A graph with weights; a set of vertices is a number whose bits they are."""

    weights: Sequence[float]
    near: Sequence[int]

    def weigh(self, vertices: int) -> float:
        return sum(self.weights[v] for v in _bits(vertices))

    def without_lone(self, rest: int) -> int:
        return sum(1 << v for v in _bits(rest) if self.near[v] & rest)

    def cover_greedily(self, rest: int) -> int:
        """Take vertices that cover most for their weight until nothing is left to cover."""
        taken = 0
        while rest := self.without_lone(rest):
            pick = min(_bits(rest), key=lambda v: (self.weights[v] / (self.near[v] & rest).bit_count(), v))
            taken |= 1 << pick
            rest &= ~(1 << pick)
        return taken

    def prune(self, cover: int) -> int:
        """Give back what the others cover already, the heaviest first."""
        for vertex in sorted(_bits(cover), key=lambda v: (-self.weights[v], v)):
            if not self.near[vertex] & ~cover:
                cover &= ~(1 << vertex)
        return cover

    def bound_by_edges(self, rest: int) -> float:
        """Return what edges can pay without a vertex getting more than it weighs (local ratio)."""
        left = {v: self.weights[v] for v in _bits(rest)}
        paid = 0.0
        for v in sorted(left, key=lambda v: (left[v], v)):
            for other in _bits(self.near[v] & rest):
                if left[v] <= 0:
                    break
                pay = min(left[v], left[other])
                left[v] -= pay
                left[other] -= pay
                paid += pay
        return paid

    def bound_by_cliques(self, rest: int) -> float:
        """Return the sum over disjoint cliques of all but the heaviest of each: a cover leaves out one at most."""
        cliques: list[list[int]] = []  # vertices near all of it, and its vertices but the heaviest
        paid = 0.0
        for v in sorted(_bits(rest), key=lambda v: (-self.weights[v], v)):
            for clique in cliques:
                if clique[0] >> v & 1:
                    clique[0] &= self.near[v]
                    paid += self.weights[v]
                    break
            else:
                cliques.append([self.near[v]])
        return paid


class _Pool:
    """Free parts of the NAT pool, halved as needed: the first address of each free prefix, by length."""

    def __init__(self, free: dict[int, list[int]]) -> None:
        self.free = free

    @classmethod
    def free_of(cls, pool: IPv4Network, occupied: Iterable[Block]) -> _Pool:
        """Return the pool without what anything occupied meets."""
        whole = parse_prefix(str(pool))
        out = cls({})
        inside = sorted({(b.first, b.last) for b in occupied if b.meets(Block(4, whole.value, whole.last))})
        start = whole.value
        for first, last in [*inside, (whole.last + 1, whole.last + 1)]:
            out.put(start, first)
            start = max(start, last + 1)
        return out

    def put(self, start: int, stop: int) -> None:
        """Add the addresses from start up to stop as prefixes."""
        while start < stop:
            bits = min((start & -start).bit_length() - 1 if start else 32, (stop - start).bit_length() - 1)
            heapq.heappush(self.free.setdefault(32 - bits, []), start)
            start += 1 << bits

    def copy(self) -> _Pool:
        return _Pool({length: list(values) for length, values in self.free.items() if values})

    def take(self, length: int) -> Prefix | None:
        """Take a prefix from the smallest free one that holds it; None when there is none."""
        fitting = [have for have, values in self.free.items() if values and have <= length]
        if not fitting:
            return None
        have = max(fitting)
        value = heapq.heappop(self.free[have])
        for longer in range(have + 1, length + 1):
            heapq.heappush(self.free.setdefault(longer, []), value + (1 << (BITS[4] - longer)))
        return Prefix(4, value, length)

    def holds_all(self, blocks: Sequence[Block]) -> bool:
        """Tell whether all would fit."""
        return self.copy().take_all(blocks) is not None

    def take_all(self, blocks: Sequence[Block]) -> tuple[tuple[Block, Prefix], ...] | None:
        """Take a prefix of each IPv4 block's length, the widest first; None, and nothing taken, when not all fit."""
        if any(b.version != 4 for b in blocks):
            return None
        trial = self.copy()
        out: dict[Block, Prefix] = {}
        for block in sorted(blocks, key=lambda b: (b.cover.length, b.first)):
            given = trial.take(block.cover.length)
            if given is None:
                return None
            out[block] = given
        self.free = trial.free
        return tuple((b, out[b]) for b in blocks)


__all__ = [
    "ACTIONS",
    "Action",
    "ActionCost",
    "Choice",
    "CostModel",
    "DepartmentFacts",
    "Language",
    "Reason",
    "Resolution",
    "Resolutions",
    "Stake",
    "explain_choice",
    "find_cover",
    "name_action",
    "read_costs",
    "resolve_clusters",
    "talking_pairs",
]
