"""The planner's policy as a YAML file. Every problem of a file is found in one pass, each with its line and key.

`addressing/example-policy.yaml` is a whole one, explained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from ipaddress import IPv6Network
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from addressing.ownareas import span_part
from addressing.policy import LEVEL_NAMES, SUBNET_LENGTH, Infrastructure, LevelField, PlanPolicy, Subnet
from addressing.special import GLOBAL_UNICAST, find_special
from addressing.text import AddressTextError, parse_prefix
from inventory.errors import ExtranetError, InputProblemsError, Problem
from inventory.model import Model
from inventory.yamlfile import YamlProblemError, parse_yaml

EXAMPLE = Path(__file__).with_name("example-policy.yaml")
_DOCUMENTATION = IPv6Network("3fff::/20")
_UNIQUE_LOCAL = parse_prefix("fc00::/7")
_NOT_IN_PRODUCTION = frozenset({"documentation", "deprecated", "unassigned"})
_TOO_FAST = 10.0
"""A growth of ten times and more is a percentage written as a number."""


class PolicyPoolError(ExtranetError):
    """A pool given on the command line is none."""

    def __init__(self, pool: str, what: str, todo: str) -> None:
        super().__init__(f"--pool {pool}: {what}; {todo}")


def default_policy(pool: str) -> PlanPolicy:
    """Return the policy that holds where a planner decided nothing but the pool.

    Raises:
        PolicyPoolError: it is no block that can be divided.
    """
    return replace_pool(PlanPolicy(pools=(_DOCUMENTATION,)), pool)


def replace_pool(policy: PlanPolicy, pool: str) -> PlanPolicy:
    """Return a policy with another pool.

    Raises:
        PolicyPoolError: it is no block that can be divided, or none under this policy.
    """
    found: list[tuple[str, str]] = []
    network = read_pool(pool, lambda what, todo: found.append((what, todo)))
    if network is not None:
        for _, what, todo in _pool_contradictions([network], policy.leaf_at_most):
            found.append((what, todo))
        srv6 = policy.infrastructure.srv6
        if srv6 is not None and srv6.overlaps(network):
            found.append((f"overlaps infrastructure.srv6 {srv6}", "keep the locators apart from user space"))
        found += [(what, todo) for _, what, todo in _use_contradictions([network], production=policy.production)]
    if network is None or found:
        what, todo = found[0]
        raise PolicyPoolError(pool, what.removeprefix(f"{pool} ").removeprefix("is "), todo)
    return policy.altered(pools=(network,))


def read_pool(text: Any, complain: Callable[[str, str], None]) -> IPv6Network | None:
    """Read one pool; None after complaining of what is wrong and what to do."""
    if not isinstance(text, str):
        complain(f"{text!r} is no prefix", "write one in quotes, like '3fff:410::/32'")
        return None
    if "%" in text:
        complain(
            "a zone id (after %) belongs to an interface, not to a block", f"write {text.partition('%')[0]}/LENGTH"
        )
        return None
    try:
        prefix = parse_prefix(text)
    except AddressTextError as error:
        complain(error.what, error.todo)
        return None
    if prefix.version == 4:
        complain("an IPv4 block", "name an IPv6 block; IPv4 networks are compared by 'extranet plan overlaps'")
    elif "/" not in text and "／" not in text:
        complain("an address without a length", f"write {prefix}, with the block's own length")
    elif prefix.length > SUBNET_LENGTH or prefix.length < 1:
        complain(f"/{prefix.length} cannot be divided", f"expected a block of /1 to /{SUBNET_LENGTH}")
    elif str(prefix) != text:
        complain("not written as RFC 5952 has it", f"write {prefix}")
    else:
        return IPv6Network(text)
    return None


def read_plan_policy(path: Path) -> PlanPolicy:
    """Read a policy from YAML.

    Raises:
        InputProblemsError: every problem of the file, each with its line, its key and a way out.
    """
    return _Reader(path).read()


# A problem's key path, what it is, what to do.
_Found = tuple[str, str, str]


class _Reader:
    """Reads one file, collecting what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}
        self.sound: dict[str, list[str]] = {}
        """By list: the places of its sound entries, for what is wrong between them."""

    def complain(self, key: str, what: str, todo: str, row: int | None = None) -> None:
        self.problems.append(
            Problem(file=self.path.name, row=row or self._line(key), column=key or None, what=what, todo=todo)
        )

    def _place(self, key: str) -> str:
        """Return the place in the file of a key like `pools[1]`, which counts sound entries only."""
        at, _, rest = key.rpartition("[")
        number, _, tail = rest.partition("]")
        return self.sound[at][int(number)] + tail if at in self.sound else key

    def _line(self, key: str) -> int | None:
        """Return the line of a key, or of the nearest thing around it."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self.lines.get(key)

    def read(self) -> PlanPolicy:
        data = self._load()
        if isinstance(data, dict):
            pieces = self._pieces(data)
            for found in _contradictions(pieces):
                self.complain(self._place(found[0]), *found[1:])
            if not self.problems:
                return PlanPolicy(**pieces)
        raise InputProblemsError(sorted(self.problems, key=lambda p: (p.row or 0, p.column or "")))

    def _load(self) -> Any:
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            self.complain("", f"cannot be read ({error.strerror})", "name a policy's file")
            return None
        except UnicodeDecodeError as error:
            self.complain("", f"not UTF-8 at byte {error.start}", "save it as UTF-8")
            return None
        alias = _find_alias(text)
        if alias is not None:
            key, row, name = alias
            self.complain(key, f"*{name} repeats another part of the file", "write it out: aliases are not read", row)
            return None
        try:
            data = parse_yaml(text)
        except YamlProblemError as error:
            self.complain("", error.what, "see addressing/example-policy.yaml", error.row)
            return None
        if not isinstance(data, dict):
            self.complain("", "expected keys like 'pools:'", "see addressing/example-policy.yaml", 1)
            return None
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            self.lines.update(_key_lines(root, ""))
        return data

    def _pieces(self, data: dict[Any, Any]) -> dict[str, Any]:
        """Return the policy's fields that are sound by themselves."""
        self._known_keys(data, PlanPolicy, "")
        readers: dict[str, Callable[[Any, str], Any]] = {
            "pools": self._pools,
            "fields": self._fields,
            "templates": self._templates,
            "classes": self._classes,
            "infrastructure": self._infrastructure,
        }
        if "pools" not in data:
            self.complain("pools", "is missing", "name the blocks to divide, like pools: ['3fff:410::/32']", 1)
        pieces: dict[str, Any] = {}
        for name in PlanPolicy.model_fields:
            if name in data:
                read = readers.get(name)
                value = read(data[name], name) if read else self._scalar(data[name], name)
                if value is not None:
                    pieces[name] = value
        return pieces

    def _known_keys(self, data: dict[Any, Any], model: type[Model], at: str) -> None:
        for key in data:
            if key not in model.model_fields:
                near = get_close_matches(str(key), model.model_fields, 1)
                todo = f"did you mean {near[0]}?" if near else f"expected {', '.join(model.model_fields)}"
                self.complain(_join(at, key), "no such key", todo)

    def _scalar(self, value: Any, name: str) -> Any:
        if name in {"comfortable", "ceiling"}:
            value = _share(value)
        try:
            PlanPolicy.model_validate({"pools": (_DOCUMENTATION,), name: value}, strict=True)
        except ValidationError as error:
            # What contradicts something else has no place of its own here; contradictions are found together later.
            if any(found["loc"] for found in error.errors()):
                self._translate(error, name, PlanPolicy)
                return None
        return value

    def _translate(self, error: ValidationError, at: str, model: type[Model]) -> None:
        """Turn pydantic's findings into problems, each with the meaning of the field as the way out."""
        for found in error.errors():
            names = [str(n) for n in found["loc"] if n in model.model_fields]
            key = at if not names or names[0] == at else _join(at, names[0])
            what, _, todo = str(found["msg"]).removeprefix("Value error, ").partition("; ")
            value = found.get("input")
            if found["type"] == "missing":
                what = "is missing"
            elif not isinstance(value, dict):
                what = f"{what}, found {value!r}"
            meaning = model.model_fields[names[0]].description if names else ""
            # A value that is neither of two types is reported once for each.
            if not self.problems or self.problems[-1].column != key:
                self.complain(key, what, todo or (f"expected: {meaning}" if meaning else "correct it"))

    def _entries(self, value: Any, at: str) -> Iterator[tuple[str, dict[Any, Any]]]:
        """Yield the mappings of a list, with their places; complain of what is none."""
        if not isinstance(value, list):
            self.complain(at, f"expected a list, found {value!r}", "start each entry with '- '")
            return
        self.sound[at] = []
        for number, entry in enumerate(value):
            place = f"{at}[{number}]"
            if isinstance(entry, dict):
                yield place, entry
            else:
                self.complain(place, f"expected keys and values, found {entry!r}", "write it like {name: x, ...}")

    def _pools(self, value: Any, at: str) -> tuple[IPv6Network, ...] | None:
        texts = value if isinstance(value, list) else [value]
        if not texts:
            self.complain(at, "no pool", "name at least one block to divide")
        found, self.sound[at] = [], []
        for number, text in enumerate(texts):
            place = f"{at}[{number}]" if isinstance(value, list) else at
            network = self._pool(text, place)
            if network is not None:
                found.append(network)
                self.sound[at].append(place)
        return tuple(found) or None

    def _pool(self, text: Any, place: str) -> IPv6Network | None:
        return read_pool(text, lambda what, todo: self.complain(place, f"{text}: {what}", todo))

    def _fields(self, value: Any, at: str) -> tuple[LevelField, ...]:
        numbers = {name: level for level, name in LEVEL_NAMES.items()}
        out = []
        for place, entry in self._entries(value, at):
            self._known_keys(entry, LevelField, place)
            clean = {k: v for k, v in entry.items() if k in LevelField.model_fields}
            level = clean.get("level")
            if isinstance(level, str):
                if level not in numbers:
                    self.complain(f"{place}.level", f"no level {level!r}", f"expected {', '.join(numbers)} or 1 to 9")
                    continue
                clean["level"] = numbers[level]
            if "growth" in clean:
                raw = clean["growth"]
                clean["growth"] = growth = _share(raw)
                if not isinstance(raw, str) and _is_number(growth) and growth >= _TOO_FAST:
                    todo = f"write {growth / 100:g} or '{growth:g} %' if you mean a share"
                    self.complain(f"{place}.growth", f"{growth:g} is {growth * 100:g} % more", todo)
                    continue
            laid = self._model(LevelField, clean, place)
            if laid is not None:
                out.append(laid)
                self.sound[at].append(place)
        return tuple(out)

    def _model(self, model: type[Any], entry: dict[Any, Any], place: str) -> Any:
        """Return an entry as a model, strictly read; None after complaining."""
        frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
        try:
            return model.model_validate(frozen, strict=True)
        except ValidationError as error:
            self._translate(error, place, model)
            return None

    def _templates(self, value: Any, at: str) -> dict[str, tuple[Subnet, ...]] | None:
        if not isinstance(value, dict):
            self.complain(at, f"expected names of templates, found {value!r}", "write 'village:' and a list below it")
            return None
        out = {}
        for name, parts in value.items():
            place = _join(at, name)
            if not isinstance(name, str):
                self.complain(place, "the name of a template must be text", f"put it in quotes: '{name}'")
                continue
            found = []
            for where, entry in self._entries(parts, place):
                self._known_keys(entry, Subnet, where)
                clean = {k: v for k, v in entry.items() if k in Subnet.model_fields}
                part = self._model(Subnet, clean, where)
                if part is not None:
                    found.append(part)
                    self.sound[place].append(where)
            out[name] = tuple(found)
        return out

    def _classes(self, value: Any, at: str) -> dict[str, str] | None:
        if not isinstance(value, dict):
            self.complain(at, f"expected division codes with their class, found {value!r}", "write '410329001000: B'")
            return None
        out = {}
        for code, name in value.items():
            if isinstance(code, bool) or not isinstance(code, (str, int)):
                self.complain(_join(at, code), "is no division's code", "write one like '410329001000'")
            elif not isinstance(name, str):
                self.complain(_join(at, code), f"expected a template's name, found {name!r}", "put it in quotes")
            else:
                out[str(code)] = name
        return out

    def _infrastructure(self, value: Any, at: str) -> Infrastructure | None:
        if not isinstance(value, dict):
            self.complain(at, f"expected keys, found {value!r}", f"expected {', '.join(Infrastructure.model_fields)}")
            return None
        self._known_keys(value, Infrastructure, at)
        clean = {k: v for k, v in value.items() if k in Infrastructure.model_fields}
        text = clean.pop("srv6", None)
        if text is not None:
            clean["srv6"] = self._pool(text, f"{at}.srv6")
        found: Infrastructure | None = self._model(Infrastructure, clean, at)
        return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _share(value: Any) -> Any:
    """Return a share written as `20 %` as a number; anything else as it is."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip().removesuffix("%")) / 100
        except ValueError:
            return value
    return value


def _join(at: str, *keys: Any) -> str:
    """Return a key path."""
    return ".".join(str(k) for k in (at, *keys) if k != "")


def _find_alias(text: str) -> tuple[str, int, str] | None:
    """Return key path, line and name of the first alias; None where there is none.

    A few aliases of aliases stand for more than any memory holds, so they are looked for before anything is built.
    """
    around: list[tuple[str, bool]] = []  # the place of what is open, and whether it is a list
    counts: list[int] = []
    keys: list[str] = []
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.CollectionEndEvent):
                around.pop(), counts.pop(), keys.pop()
            if not isinstance(event, yaml.NodeEvent):
                continue
            place, is_key = "", False
            if around:
                at, is_list = around[-1]
                is_key = not is_list and counts[-1] % 2 == 0
                if is_key:
                    keys[-1] = str(getattr(event, "value", ""))
                place = f"{at}[{counts[-1]}]" if is_list else _join(at, keys[-1])
                counts[-1] += 1
            if isinstance(event, yaml.AliasEvent):
                return place, event.start_mark.line + 1 if event.start_mark else 1, event.anchor or ""
            if isinstance(event, yaml.CollectionStartEvent):
                around.append((place, isinstance(event, yaml.SequenceStartEvent)))
                counts.append(0)
                keys.append("")
    except yaml.YAMLError:
        pass  # whoever reads it says what is wrong
    return None


def _key_lines(node: yaml.Node, at: str) -> Iterator[tuple[str, int]]:
    """Yield the line of every key and entry of a file, by key path."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = _join(at, getattr(key, "value", ""))
            yield place, key.start_mark.line + 1
            yield from _key_lines(value, place)
    elif isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            place = f"{at}[{number}]"
            yield place, entry.start_mark.line + 1
            yield from _key_lines(entry, place)


# ------------------------------------------------------------------------------------------------------ contradictions


def _contradictions(pieces: dict[str, Any]) -> Iterator[_Found]:
    """Yield where sound pieces do not go together; pieces that are not sound are missing."""
    whole = {
        **{name: info.get_default(call_default_factory=True) for name, info in PlanPolicy.model_fields.items()},
        **pieces,
    }
    pools: tuple[IPv6Network, ...] = pieces.get("pools", ())
    if whole["comfortable"] > whole["ceiling"]:
        what = f"{whole['comfortable']:g} is above the ceiling of {whole['ceiling']:g}"
        yield "comfortable", what, "lower it, or raise the ceiling"
    yield from _pool_contradictions(pools, whole["leaf_at_most"])
    yield from _field_contradictions(whole["fields"], pools[0].prefixlen if pools else 1, whole["leaf_at_most"])
    yield from _template_contradictions(whole["templates"], whole["classes"])
    yield from _router_contradictions(whole["infrastructure"], pools)
    yield from _use_contradictions(pools, production=whole["production"])


def _use_contradictions(pools: Sequence[IPv6Network], *, production: bool) -> Iterator[_Found]:
    """Yield pools that lie where nobody is assigned anything; in production also those for examples and deprecated."""
    for number, pool in enumerate(pools):
        prefix = parse_prefix(str(pool))
        if not any(block.covers(prefix) for block in (GLOBAL_UNICAST, _UNIQUE_LOCAL)):
            what = f"{pool} lies outside {GLOBAL_UNICAST}, which is all that is given out (RFC 4291 2.4)"
            yield f"pools[{number}]", what, f"take a block assigned to you (for examples {_DOCUMENTATION})"
            continue
        for block in find_special(prefix):
            refused = block.use == "special" or (production and block.use in _NOT_IN_PRODUCTION)
            if refused and block.prefix.covers(prefix):
                way = ", or leave out 'production'" if block.use in _NOT_IN_PRODUCTION else ""
                what = f"{pool} lies in {block.prefix}, {block.name} ({block.source})"
                yield f"pools[{number}]", what, f"take a block assigned to you{way}"


def _pool_contradictions(pools: Sequence[IPv6Network], leaf: int) -> Iterator[_Found]:
    for number, pool in enumerate(pools):
        at = f"pools[{number}]"
        if pool.prefixlen > leaf:
            yield at, f"{pool} is too small for prefixes of /{leaf}", "take a larger block, or raise leaf_at_most"
        if pool.prefixlen != pools[0].prefixlen:
            yield (
                at,
                f"/{pool.prefixlen}, the first is /{pools[0].prefixlen}",
                "split the larger: pools have one length",
            )
        for before in pools[:number]:
            if pool.overlaps(before):
                yield at, f"{pool} overlaps {before}", "name each block once"


def _field_contradictions(fields: tuple[LevelField, ...], pool_length: int, leaf: int) -> Iterator[_Found]:
    length = pool_length
    for number, found in enumerate(fields):
        at = f"fields[{number}]"
        levels = [f.level for f in fields[:number]]
        if found.level in levels:
            yield f"{at}.level", f"level {found.level} is there twice", "give each level one entry"
        elif levels and found.level < max(levels):
            yield f"{at}.level", f"level {found.level} stands below level {max(levels)}", "list the highest level first"
        if len(set(found.reserved)) < len(found.reserved):
            yield f"{at}.reserved", "a slot is named twice", "name each once"
        if min(found.reserved) < 0:
            yield f"{at}.reserved", f"slot {min(found.reserved)}", "slots are counted from 0"
        if found.width == "auto":
            if max(found.reserved) >= 1 << (leaf - pool_length if leaf > pool_length else 0):
                what = f"slot {max(found.reserved)} lies beyond any field from /{pool_length} to /{leaf}"
                yield f"{at}.reserved", what, "name a lower slot"
            continue
        length += found.width
        if found.width < 1 or length > SUBNET_LENGTH:
            what = f"{found.width} bits end at /{length}"
            yield f"{at}.width", what, f"expected 1 to {SUBNET_LENGTH - pool_length} bits in all, or auto"
        elif length > leaf:
            yield (
                f"{at}.width",
                f"ends at /{length}, longer than leaf_at_most /{leaf}",
                "narrow a field, or take a larger pool",
            )
        if found.width <= SUBNET_LENGTH and max(found.reserved) >= 1 << max(0, found.width):
            what = f"slot {max(found.reserved)} does not exist in {found.width} bits"
            yield f"{at}.reserved", what, f"expected 0 to {(1 << max(0, found.width)) - 1}"


def _template_contradictions(templates: dict[str, tuple[Subnet, ...]], classes: dict[str, str]) -> Iterator[_Found]:
    for name, parts in templates.items():
        for (i, one), (j, other) in combinations(enumerate(parts), 2):
            at = f"templates.{name}[{j}]"
            if one.name == other.name:
                yield f"{at}.name", f"{other.name!r} is there twice", "give each part a name of its own"
            first, last = span_part(one)
            start, end = span_part(other)
            if first <= end and start <= last:
                yield f"{at}.slot", f"{other.name!r} overlaps part {i}, {one.name!r}", "give it another slot"
    for code, name in classes.items():
        if name not in templates:
            known = ", ".join(templates) or "none yet"
            yield f"classes.{code}", f"no template {name!r}", f"expected one of the templates: {known}"


def _router_contradictions(routers: Infrastructure, pools: tuple[IPv6Network, ...]) -> Iterator[_Found]:
    for (one, first), (other, second) in combinations(routers.subnets.items(), 2):
        if first == second:
            yield f"infrastructure.{other}", f"/64 number {second} holds the {one} already", "give it another number"
    for pool in pools:
        if routers.srv6 is not None and routers.srv6.overlaps(pool):
            what = f"{routers.srv6} overlaps the pool {pool}"
            yield "infrastructure.srv6", what, "keep the locators apart from user space (RFC 9602)"


__all__ = ["EXAMPLE", "PolicyPoolError", "default_policy", "read_plan_policy", "read_pool", "replace_pool"]
