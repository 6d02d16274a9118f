"""What to do about each cluster of overlaps, at the least total cost, and why.

Each department of a cluster gets one treatment: it keeps its addresses, apart in a VRF of its own; it is renumbered; its
blocks are translated both ways (twice NAT, RFC 3022 and RFC 2663 4.3) one to one into parts of a stated pool; or it goes
IPv6-only and reaches IPv4 by NAT64 (RFC 6146). Two departments that meet in a cluster and must talk cannot both keep
their addresses, so those that change are a vertex cover of the pairs that must talk, and the cheapest is sought: exactly
by branch and bound, which ends at once for the few departments of a usual cluster; where its steps run out, the best
found so far stands, beside a bound below which no solution is (the dual of Bar-Yehuda and Even's local ratio).

Costs are person-hours: `once` for a department that takes a treatment anywhere, and by cluster for each of its blocks,
hosts, rules and services. As `once` is paid once, clusters hang together, and what is bought is chosen for all of them:
spreading `once` evenly over the clusters where it may be had never overstates what any choice costs, so the sum of the
clusters' bounds is a bound of the total. Where that leaves a gap, a local search buys, drops and swaps treatments, and
branch and bound over what is bought closes the gap, or raises the bound as far as its effort goes. Departments that no
chain of talking pairs joins are chosen for apart. Where the NAT pool is too small for the choice, NAT goes first to
where it saves most, and the bound stays that of the free choice.
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
_KEEP, _NAT = ACTIONS.index("keep"), ACTIONS.index("nat")
_EPSILON = 1e-9
_EFFORT = 60_000.0
"""What choosing for all clusters together may cost: a few seconds."""
_TRIED = 10_000
"""How many clusters are chosen for anew, all told, where the pool is too small."""
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
    """A department's treatment in a cluster. `hours` holds its share of `once`, split among the clusters that use it.

    `options` says what each treatment costs here while all other clusters stay as they are: with `once` whole unless
    it is paid elsewhere, and None where it cannot be had; `partners` are the departments it must reach that meet it here;
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
    """What is done about a cluster: a choice for each department.

    No other choice here brings `hours` below `lower` while all other clusters stay as they are.
    """

    cluster: Cluster
    choices: tuple[Choice, ...]
    hours: float
    lower: float

    @property
    def exact(self) -> bool:
        """Whether it is known to be the cheapest, the other clusters being as they are."""
        return self.hours <= self.lower + 1e-6

    @property
    def resolved(self) -> bool:
        """Whether every department could be helped."""
        return all(c.action for c in self.choices)


@dataclass(frozen=True)
class Resolutions:
    """What is done about all clusters. `hours` counts each `once` once; no solution of them all costs less than `lower`."""

    each: tuple[Resolution, ...]
    hours: float
    lower: float

    @property
    def exact(self) -> bool:
        """Whether it is known to be the cheapest."""
        return self.hours <= self.lower + 1e-6

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
    effort = _Effort(_EFFORT)
    searches = [_Search(parts, costs, effort) for parts in _split(cases)]
    for search in searches:
        search.run()
    lower = sum(s.lower for s in searches)
    plan = _Allotment(searches, pool).best()
    uses = Counter((d, a) for (_, d), a in plan.actions.items() if a >= 0)
    each = tuple(case.resolution(plan, uses) for case in cases)
    hours = sum(r.hours for r in each)
    return Resolutions(each, hours, min(lower, hours))


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
            "cheaper": "总工时不高于保留原地址",
            "unresolved": f"须与{who}互通，但没有允许的办法" if who else "没有允许的办法",
        }[choice.reason]
        assumed = "，主机数为估计" if choice.stake.assumed else ""
        if choice.action is None:
            return f"{choice.department}：无法解决：{why}；各办法工时：{'，'.join(others)}"
        what = _ACTION_WORDS[language][choice.action][0]
        part = (
            f"，其中仅本组{here:.1f}" if (here := _hours(choice.options[choice.action])) < choice.hours - 0.05 else ""
        )
        return f"{choice.department}：{what}（{choice.hours:.1f}工时{part}{assumed}）：{why}；未选：{'，'.join(others)}"
    who = ", ".join(partners) + (f" and {more} more" if more > 0 else "")
    why = {
        "alone": "it must reach nobody that it meets here",
        "partners-change": f"{who}, which it must reach, change instead",
        "must-talk": f"it must reach {who}, and the cheapest way found has it change",
        "cheaper": "that costs no more in all than keeping its addresses",
        "unresolved": (f"it must reach {who}, and " if who else "") + "nothing that may be done helps",
    }[choice.reason]
    assumed = ", hosts assumed" if choice.stake.assumed else ""
    if choice.action is None:
        return f"{choice.department} cannot be helped: {why}; hours: {', '.join(others)}"
    what = _ACTION_WORDS[language][choice.action][0]
    part = (
        f", {here:.1f} of it here alone"
        if (here := _hours(choice.options[choice.action])) < choice.hours - 0.05
        else ""
    )
    return f"{choice.department} {what} ({choice.hours:.1f} h{part}{assumed}): {why}; not chosen: {', '.join(others)}"


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
        self.bases = {d: self._bases(d, nat=pool.holds_all(s.blocks)) for d, s in self.stakes.items()}
        self.parts: list[_Part] = []

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

    def _bases(self, department: str, *, nat: bool) -> tuple[float, ...]:
        """Return what each treatment costs here beside `once`; infinite where it cannot be had."""
        stake = self.stakes[department]
        facts = self.costs.departments.get(department, DepartmentFacts())
        out: list[float] = []
        for action in ACTIONS:
            allowed = action in self.costs.actions and action in facts.actions
            # NAT and NAT64 are about IPv4; two that use one IPv6 block are renumbered.
            possible = self.cluster.outermost.version == 4 or action in {"keep", "renumber"}
            if not allowed or not possible or (action == "nat" and not nat):
                out.append(inf)
                continue
            cost = self.costs.cost(action)
            out.append(
                cost.block * len(stake.blocks)
                + cost.host * stake.hosts
                + cost.rule * stake.rules
                + cost.service * stake.services
            )
        return tuple(out)

    def resolution(self, plan: _Plan, uses: Mapping[tuple[str, int], int]) -> Resolution:
        """Return the resolution; `uses` says in how many clusters a department takes each treatment."""
        number = self.cluster.number
        actions = {d: plan.actions[number, d] for d in self.stakes}
        extras = {
            d: tuple(
                0.0 if uses.get((d, a), 0) > (actions[d] == a) else self.costs.cost(action).once
                for a, action in enumerate(ACTIONS)
            )
            for d in self.stakes
        }
        choices: list[Choice] = []
        saving = 0.0
        for department in sorted(self.stakes):
            mine, taken = self.bases[department], actions[department]
            struck = (number, department) in plan.struck
            prices = [
                inf if struck and a == _NAT else h + e
                for a, (h, e) in enumerate(zip(mine, extras[department], strict=True))
            ]
            options = {action: None if isinf(h) else h for action, h in zip(ACTIONS, prices, strict=True)}
            partners = tuple(sorted(self.partners[department]))
            stake = self.stakes[department]
            if taken < 0:
                choices.append(Choice(department, None, 0.0, options, "unresolved", partners, stake))
                continue
            action = ACTIONS[taken]
            hours = mine[taken] + self.costs.cost(action).once / uses[department, taken]
            saving += prices[taken]
            reason: Reason = "must-talk"
            if taken == _KEEP:
                reason = "partners-change" if partners else "alone"
            elif not any(actions[p] == _KEEP for p in partners):
                reason = "cheaper"
            mapping = plan.mappings.get((number, department), ())
            choices.append(Choice(department, action, hours, options, reason, partners, stake, mapping))
        saving -= sum(part.solve([extras[d] for d in part.names]).lower for part in self.parts)
        hours = sum(c.hours for c in choices)
        return Resolution(self.cluster, tuple(choices), hours, hours - max(0.0, saving))


class _Effort:
    """What the search may still spend, about 30 microseconds each; one for all of it, so that it always ends soon."""

    def __init__(self, left: float) -> None:
        self.left = left


class _Answer(NamedTuple):
    """A choice for a part. `hours` are without any `once`, `lower` bounds all choices with what `once` was said to be."""

    actions: tuple[int, ...]
    hours: float
    lower: float


_IMPOSSIBLE = _Answer((), inf, inf)


class _Part:
    """Those departments of a cluster that chains of talking pairs, in any cluster, join."""

    def __init__(self, case: _Case, names: Sequence[str]) -> None:
        self.case, self.names = case, tuple(names)
        self.number, self.steps = case.cluster.number, case.costs.search_steps
        self.bases = [case.bases[d] for d in names]
        place = {d: i for i, d in enumerate(names)}
        self.edges = [(place[a], place[b]) for a, b in case.edges if a in place]

    def solve(self, extras: Sequence[Sequence[float]], struck: frozenset[int] = frozenset()) -> _Answer:
        """Return the cheapest choice when `extras` are paid for each department's treatments, without NAT for `struck`."""
        bases = self.bases
        if struck:
            bases = [(*b[:_NAT], inf, *b[_NAT + 1 :]) if i in struck else b for i, b in enumerate(bases)]
        may = [min(b[_KEEP + 1 :]) < inf for b in bases]
        # What nobody can change is no reason for anybody: it is said to be unresolved, and costs nothing.
        doomed = {v for edge in self.edges if not (may[edge[0]] or may[edge[1]]) for v in edge}
        doomed |= {i for i, b in enumerate(bases) if not may[i] and isinf(b[_KEEP])}
        costs = [[h + e for h, e in zip(b, x, strict=True)] for b, x in zip(bases, extras, strict=True)]
        best = [min(range(_KEEP + 1, len(c)), key=c.__getitem__) for c in costs]
        keep = [c[_KEEP] for c in costs]
        change = [c[a] for c, a in zip(costs, best, strict=True)]
        changing = {i for i in range(len(costs)) if change[i] < keep[i]}
        lower = sum(min(k, c) for i, (k, c) in enumerate(zip(keep, change, strict=True)) if i not in doomed)
        if isinf(lower):
            return _IMPOSSIBLE
        edges = [(a, b) for a, b in self.edges if not {a, b} & changing and (may[a] or may[b])]
        if any(isinf(change[a]) and isinf(change[b]) for a, b in edges if not {a, b} & doomed):
            return _IMPOSSIBLE
        if edges:
            weights = [0.0 if isinf(k) else c - k for k, c in zip(keep, change, strict=True)]
            if any(isinf(weights[a]) and isinf(weights[b]) for a, b in edges):
                return _IMPOSSIBLE
            cover, bound = find_cover(weights, edges, self.steps)
            changing |= cover
            lower += bound
        actions = tuple(-1 if i in doomed else best[i] if i in changing else _KEEP for i in range(len(costs)))
        return _Answer(actions, sum(b[a] for b, a in zip(bases, actions, strict=True) if a >= 0), lower)


def _split(cases: Sequence[_Case]) -> list[list[_Part]]:
    """Return the parts of all clusters by the departments that talk, directly or by others, the fewest first."""
    root = {d: d for c in cases for d in c.stakes}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = name = root[root[name]]
        return name

    for a, b in (edge for c in cases for edge in c.edges):
        first, second = sorted((find(a), find(b)))
        root[second] = first
    found: dict[str, list[_Part]] = {}
    for case in cases:
        names: dict[str, list[str]] = {}
        for department in sorted(case.stakes):
            names.setdefault(find(department), []).append(department)
        for whose, some in names.items():
            part = _Part(case, some)
            case.parts.append(part)
            found.setdefault(whose, []).append(part)
    sizes = Counter(find(d) for d in root)
    return [found[name] for name in sorted(found, key=lambda n: (sizes[n], n))]


_State = dict[str, tuple[float, ...]]
"""What each department pays beside, treatment by treatment: nothing for what is bought, infinite for what may not be."""
_Bought = frozenset[tuple[str, int]]


class _Search:
    """The choice for departments that hang together, over all their clusters. No choice costs less than `lower`."""

    def __init__(self, parts: Sequence[_Part], costs: CostModel, effort: _Effort) -> None:
        self.parts, self.effort = parts, effort
        self.once = tuple(costs.cost(a).once for a in ACTIONS)
        self.places: dict[str, list[int]] = {}
        self.near: dict[str, set[str]] = {}
        had: Counter[tuple[str, int]] = Counter()
        for number, part in enumerate(parts):
            for name, base in zip(part.names, part.bases, strict=True):
                self.places.setdefault(name, []).append(number)
                self.near.setdefault(name, {name})
                had.update((name, a) for a, h in enumerate(base) if not isinf(h))
            for a, b in part.edges:
                self.near[part.names[a]].add(part.names[b])
                self.near[part.names[b]].add(part.names[a])
        self.had = had
        self.pairs = sorted(p for p in had if self.once[p[1]] > 0)
        self.memo: list[dict[tuple[tuple[float, ...], ...], _Answer]] = [{} for _ in parts]
        self.answers: list[_Answer] = []
        self.hours = self.lower = inf

    def shared(self) -> _State:
        """Return `once` spread evenly over the clusters where it may be had."""
        return {d: tuple(o / max(1, self.had[d, a]) for a, o in enumerate(self.once)) for d in self.places}

    def buying(self, bought: _Bought, banned: _Bought = frozenset()) -> _State:
        """Return that some treatments are bought, some banned, and all others are paid whole."""
        return {
            d: tuple(inf if (d, a) in banned else 0.0 if (d, a) in bought else o for a, o in enumerate(self.once))
            for d in self.places
        }

    def solve(self, state: _State, old: Sequence[_Answer] = (), changed: Collection[str] = ()) -> list[_Answer]:
        """Return the parts' answers; with `old` ones, only those of departments whose state changed are sought."""
        where: Iterable[int] = range(len(self.parts))
        if old:
            where = sorted({n for d in changed for n in self.places[d]})
        out = list(old) or [_IMPOSSIBLE] * len(self.parts)
        self.effort.left -= 1 + len(self.parts) / 20
        for number in where:
            part, memo = self.parts[number], self.memo[number]
            key = tuple(state[d] for d in part.names)
            answer = memo.get(key)
            if answer is None:
                answer = memo[key] = part.solve(key)
                self.effort.left -= 1 + (len(part.names) + len(part.edges)) / 4
            out[number] = answer
        return out

    def used(self, answers: Sequence[_Answer]) -> Counter[tuple[str, int]]:
        """Return in how many clusters each department takes each treatment."""
        pairs = (zip(p.names, a.actions, strict=True) for p, a in zip(self.parts, answers, strict=True))
        return Counter(p for some in pairs for p in some if p[1] >= 0)

    def offer(self, answers: Sequence[_Answer]) -> bool:
        """Keep these answers if they cost less than those kept; tell whether they do."""
        hours = sum(a.hours for a in answers)
        if hours >= self.hours - _EPSILON:
            return False
        hours += sum(self.once[a] for _, a in self.used(answers))
        if hours >= self.hours - _EPSILON:
            return False
        self.answers, self.hours = list(answers), hours
        return True

    def run(self) -> None:
        """Find the answers that cost least, or the best that the effort allows."""
        state = self.shared()
        answers = self.solve(state)
        self.offer(answers)
        self.lower = sum(a.lower for a in answers)
        if self.hours > self.lower + _EPSILON and self.effort.left > 0:
            self._improve(self.effort.left / 2)
            self._branch(state, answers)
        self.lower = min(self.lower, self.hours)
        for memo in self.memo:
            memo.clear()

    def _improve(self, floor: float) -> None:
        """Drop, buy and swap treatments as long as that saves and more than `floor` effort is left."""
        better = True
        while better:
            bought = frozenset(self.used(self.answers))
            state = self.buying(bought)
            answers = self.solve(state)
            better = self.offer(answers)
            if better:
                continue
            for out, into in self._moves(bought):
                if self.effort.left < floor:
                    return
                gone, come = frozenset(out), frozenset(into)
                moved = self.buying((bought - gone) | come, gone)
                names = {d for d, _ in gone | come}
                if self.offer(self.solve(moved, answers, names)):
                    better = True
                    break

    def _moves(self, bought: _Bought) -> Iterator[tuple[list[tuple[str, int]], list[tuple[str, int]]]]:
        """Yield what to drop and what to buy instead: one of either, then one of each, by departments that talk."""
        have = [p for p in self.pairs if p in bought]
        lack = [p for p in self.pairs if p not in bought]
        yield from (([p], []) for p in have)
        yield from (([], [p]) for p in lack)
        yield from (([p], [q]) for p in have for q in lack if q[0] in self.near[p[0]])

    def _branch(self, state: _State, answers: list[_Answer]) -> None:
        """Decide treatment by treatment whether it is bought, the least bound first, while the effort lasts."""
        turn = 0
        waiting = [(self.lower, turn, 0.0, state, answers)]
        settled = inf  # the least bound of what cannot be divided further
        while waiting and waiting[0][0] < min(self.hours - _EPSILON, settled) and self.effort.left > 0:
            bound, _, paid, state, answers = heapq.heappop(waiting)
            used = self.used(answers)
            gaps = [
                (self.once[a] * (1 - used[d, a] / self.had[d, a]), (d, a))
                for d, a in self.pairs
                if 0 < used[d, a] < self.had[d, a] and 0 < state[d][a] < inf
            ]
            if not gaps:
                settled = min(settled, bound)
                continue
            _, (department, action) = max(gaps, key=lambda g: g[0])
            for extra, price in ((0.0, self.once[action]), (inf, 0.0)):
                mine = state[department]
                next_state = state | {department: (*mine[:action], extra, *mine[action + 1 :])}
                found = self.solve(next_state, answers, [department])
                lower = max(bound, paid + price + sum(a.lower for a in found))
                if isinf(lower):
                    continue
                self.offer(found)
                if lower < self.hours - _EPSILON:
                    turn += 1
                    heapq.heappush(waiting, (lower, turn, paid + price, next_state, found))
        self.lower = min(self.hours, settled, waiting[0][0] if waiting else inf)


class _Plan(NamedTuple):
    """What every department gets, by cluster number and name; `struck` are those that NAT had no room for."""

    actions: Mapping[tuple[int, str], int]
    mappings: Mapping[tuple[int, str], tuple[tuple[Block, Prefix], ...]]
    struck: frozenset[tuple[int, str]]
    rank: tuple[int, float]


class _Allotment:
    """Gives parts of the pool to those that are translated, and another treatment to those it has no room for."""

    def __init__(self, searches: Sequence[_Search], pool: _Pool) -> None:
        self.searches, self.pool = searches, pool

    def best(self) -> _Plan:
        """Return the plan as it was found where the pool is wide enough, else the cheapest of those tried."""
        wanted = [(p, a) for s in self.searches for p, a in zip(s.parts, s.answers, strict=True)]
        wanted.sort(key=lambda w: (w[0].number, w[0].names))
        plan = self._allot(wanted, {}, {})
        if not plan.struck:
            return plan
        # The pool goes first to where it saves most an address; whoever needs none of it comes last, and loses nothing.
        shared = {d: mine for s in self.searches for d, mine in s.shared().items()}
        saved = {id(p): self._saving(p, shared) for s in self.searches for p in s.parts}
        whole = {d: s.once for s in self.searches for d in s.places}
        free = [(p, p.solve([shared[d] for d in p.names])) for p, _ in wanted]
        for some in (wanted, free):
            some.sort(key=lambda w: (-saved[id(w[0])], w[0].number, w[0].names))
        plan = min(
            (self._allot(some, prices, {}) for some in (wanted, free) for prices in (shared, whole)),
            key=lambda p: p.rank,
        )
        left = max(2, _TRIED // len(wanted))
        better = True
        while better and left > 0:
            better = False
            bought = {(d, a) for (_, d), a in plan.actions.items() if a >= 0}
            for banned in (None, *sorted(p for p in bought if p[1] == _NAT)):
                left -= 1
                state = {
                    d: tuple(inf if (d, a) == banned else 0.0 if (d, a) in bought else o for a, o in enumerate(mine))
                    for d, mine in whole.items()
                }
                again = [(p, p.solve([state[d] for d in p.names])) for p, _ in wanted]
                if any(a is _IMPOSSIBLE for _, a in again):
                    continue
                tried = self._allot(again, whole, state)
                if tried.rank < (plan.rank[0], plan.rank[1] - _EPSILON):
                    plan, better = tried, True
                    break
                if left <= 0:
                    break
        return plan

    @staticmethod
    def _saving(part: _Part, shared: _State) -> float:
        """Return how many hours NAT saves in a part for each address of the pool that it takes; 0 where it takes none."""
        extras = [shared[d] for d in part.names]
        answer = part.solve(extras)
        taken = sum(
            1 << (BITS[4] - b.cover.length)
            for d, a in zip(part.names, answer.actions, strict=True)
            if a == _NAT
            for b in part.case.stakes[d].blocks
        )
        if not taken:
            return 0.0
        return (part.solve(extras, frozenset(range(len(part.names)))).lower - answer.lower) / taken

    def _allot(self, wanted: Sequence[tuple[_Part, _Answer]], whole: _State, state: _State) -> _Plan:
        """Return the plan that gives the pool in this order; with `whole` prices, others get what is left to them."""
        pool = self.pool.copy()
        actions: dict[tuple[int, str], int] = {}
        mappings: dict[tuple[int, str], tuple[tuple[Block, Prefix], ...]] = {}
        struck_out: set[tuple[int, str]] = set()
        bought = {(d, a) for d, mine in state.items() for a, price in enumerate(mine) if price == 0.0}
        hours = 0.0
        for part, first in wanted:
            answer, struck = first, frozenset[int]()
            while True:
                left = pool.copy()
                given: dict[tuple[int, str], tuple[tuple[Block, Prefix], ...]] = {}
                short = None
                for place, (name, action) in enumerate(zip(part.names, answer.actions, strict=True)):
                    if action == _NAT:
                        room = left.take_all(part.case.stakes[name].blocks)
                        if room is None:
                            short = place
                            break
                        given[part.number, name] = room
                if short is None:
                    break
                struck |= {short}
                struck_out.add((part.number, part.names[short]))
                if not whole:
                    return _Plan(actions, mappings, frozenset(struck_out), (0, inf))
                extras = [tuple(0.0 if (d, a) in bought else o for a, o in enumerate(whole[d])) for d in part.names]
                answer = part.solve(extras, struck)
            pool = left
            mappings |= given
            hours += answer.hours
            for name, action in zip(part.names, answer.actions, strict=True):
                actions[part.number, name] = action
                if action >= 0:
                    bought.add((name, action))
        once = self.searches[0].once if self.searches else ()
        hours += sum(once[a] for _, a in {(d, a) for (_, d), a in actions.items() if a >= 0})
        lost = sum(a < 0 for a in actions.values())
        return _Plan(actions, mappings, frozenset(struck_out), (lost, hours))


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
