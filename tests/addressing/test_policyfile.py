"""Laws of the policy file: what is sound is read as written, and every mistake is told with its key, all at once."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from addressing.budget import lay_out
from addressing.divisions import read_divisions
from addressing.policy import LevelField, PlanPolicy
from addressing.policyfile import EXAMPLE, PolicyPoolError, default_policy, read_plan_policy, replace_pool
from inventory.errors import InputProblemsError, Problem

LUOYANG = Path(__file__).parent / "data" / "luoyang-2021.tsv.xz"
GOOD = "pools: ['3fff:410:300::/40']\n"


def write(folder: Path, text: str | bytes) -> Path:
    """Write a policy."""
    path = folder / "policy.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes) -> tuple[Problem, ...]:
    """Return what is wrong with a policy."""
    with pytest.raises(InputProblemsError) as caught:
        read_plan_policy(write(folder, text))
    return caught.value.problems


def test_example() -> None:
    """The example is sound, says what the comments say, and Yichuan can be laid out and sited by it."""
    policy = read_plan_policy(EXAMPLE)
    assert policy.pools == (IPv6Network("3fff:410:300::/40"),)
    assert [(f.level, f.width, f.order, f.growth) for f in policy.fields] == [
        (4, "auto", "centre", 0.2),
        (5, "auto", "centre", 0.2),
    ]
    assert set(policy.templates) == {"county", "town", "village", *"ABCDEF"}
    assert policy.classes == {"410329001000": "D", "410329111000": "F"}
    assert policy.infrastructure.srv6 == IPv6Network("5f00:410:329::/48")
    assert (policy.comfortable, policy.ceiling, policy.leaf_at_most) == (0.8, 0.85, 56)
    layout, _ = lay_out(read_divisions(LUOYANG, "410329000000"), policy)
    assert [f.length for f in layout.fields] == [48, 56]


def test_example_explains_every_key() -> None:
    """Every key that a policy may have stands in the example."""
    given_keys = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    assert set(given_keys) == set(PlanPolicy.model_fields)
    assert {k for f in given_keys["fields"] for k in f} | {"name"} == set(LevelField.model_fields)


def test_pool_alone(tmp_path: Path) -> None:
    """A pool is all that a policy needs; the rest is as by default."""
    assert read_plan_policy(write(tmp_path, GOOD)) == default_policy("3fff:410:300::/40")
    assert read_plan_policy(write(tmp_path, "\ufeffpools: 3fff:410:300::/40\n")) == default_policy("3fff:410:300::/40")


def test_levels_by_name_or_number(tmp_path: Path) -> None:
    """Levels go by name or number, shares by number or per cent."""
    named = GOOD + "fields: [{level: town, growth: 20 %}, {level: village, growth: 0.5}]\nceiling: 90%\n"
    numbered = GOOD + "fields: [{level: 4, growth: 0.2}, {level: 5, growth: 50%}]\nceiling: 0.9\n"
    assert read_plan_policy(write(tmp_path, named)) == read_plan_policy(write(tmp_path, numbered))


@pytest.mark.parametrize(
    ("text", "key", "what", "todo"),
    [
        ("pools: [3FFF::/32]", "pools[0]", "not written as RFC 5952 has it", "write 3fff::/32"),
        ("pools: ['3fff:0:0::/32']", "pools[0]", "not written as RFC 5952 has it", "write 3fff::/32"),
        ("pools: ['3fff::1/32']", "pools[0]", "host bits are set below /32", "write 3fff::/32"),
        ("pools: [10.0.0.0/8]", "pools[0]", "an IPv4 block", "plan overlaps"),
        ("pools: ['fe80::%eth0/64']", "pools[0]", "zone id", "write fe80::/LENGTH"),
        ("pools: ['3fff::']", "pools[0]", "an address without a length", "with the block's own length"),
        ("pools: ['3fff::/65']", "pools[0]", "/65 cannot be divided", "/1 to /64"),
        ("pools: ['3fff::/129']", "pools[0]", "prefix length '129'", "expected 0 to 128"),
        ("pools: [hello]", "pools[0]", "not an IPv4 address", "write one like"),
        ("pools: [12]", "pools[0]", "12 is no prefix", "in quotes"),
        ("pools: []", "pools", "no pool", "name at least one"),
        ("leaf_at_most: 56", "pools", "is missing", "name the blocks"),
        ("pools: ['3fff::/60']", "pools[0]", "too small for prefixes of /56", "raise leaf_at_most"),
        ("pools: ['3fff::/32', '3fff:1::/36']", "pools[1]", "/36, the first is /32", "split the larger"),
        ("pools: ['3fff::/32', '3fff:0:1000::/36']", "pools[1]", "overlaps 3fff::/32", "name each block once"),
        ("pools: ['3fff::/32', '3fff::/32']", "pools[1]", "overlaps 3fff::/32", "name each block once"),
        ("pools: [x, '3fff::/32', '3fff::/32']", "pools[2]", "overlaps 3fff::/32", "name each block once"),
        ("pools: ['fe80::/40']", "pools[0]", "outside 2000::/3", "assigned to you"),
        ("pools: ['ff00::/16']", "pools[0]", "outside 2000::/3", "assigned to you"),
        ("pools: ['2001::/28']", "pools[0]", "protocol assignments", "assigned to you"),
        (
            GOOD + "production: true",
            "pools[0]",
            "lies in 3fff::/20, documentation (RFC 9637)",
            "leave out 'production'",
        ),
        ("pools: ['2001:db8::/32']\nproduction: true", "pools[0]", "RFC 3849", "leave out 'production'"),
        ("pools: ['3ffe:1::/32']\nproduction: true", "pools[0]", "6bone", "leave out 'production'"),
        ("pools: ['fc00:1::/32']\nproduction: true", "pools[0]", "nobody assigns", "leave out 'production'"),
        (GOOD + "pools: []", None, "key 'pools' is given twice", "example-policy.yaml"),
        (GOOD + "leaf: 56", "leaf", "no such key", "expected pools, fields"),
        (GOOD + "ceilling: 1", "ceilling", "no such key", "did you mean ceiling?"),
        (GOOD + "leaf_at_most: 65", "leaf_at_most", "less than or equal to 64", "longest prefix"),
        (GOOD + "leaf_at_most: yes", "leaf_at_most", "valid integer, found True", "longest prefix"),
        (GOOD + "ceiling: 85", "ceiling", "less than or equal to 1, found 85", "HD ratio above"),
        (GOOD + "ceiling: 0.7", "comfortable", "0.8 is above the ceiling of 0.7", "lower it"),
        (GOOD + "production: maybe", "production", "valid boolean, found 'maybe'", "a plan to be used"),
        (GOOD + "fields: town", "fields", "expected a list, found 'town'", "- "),
        (GOOD + "fields: [town]", "fields[0]", "expected keys and values, found 'town'", "{name: x"),
        (GOOD + "fields: [{level: hamlet}]", "fields[0].level", "no level 'hamlet'", "expected province, city"),
        (GOOD + "fields: [{width: 8}]", "fields[0].level", "is missing", "1 province to 5 village"),
        (GOOD + "fields: [{level: 4, order: center}]", "fields[0].order", "found 'center'", "RFC 3531"),
        (GOOD + "fields: [{level: 4, width: '8'}]", "fields[0].width", "found '8'", "bits, or auto"),
        (GOOD + "fields: [{level: 4, width: 17}]", "fields[0].width", "ends at /57", "narrow a field"),
        (GOOD + "fields: [{level: 4, width: 30}]", "fields[0].width", "30 bits end at /70", "24 bits in all"),
        (GOOD + "fields: [{level: 4, width: 0}]", "fields[0].width", "0 bits", "expected 1 to"),
        (GOOD + "fields: [{level: 4, reserved: [1]}]", "fields[0]", "slot 0 must stay reserved", "add 0"),
        (GOOD + "fields: [{level: 4, reserved: [0, 0]}]", "fields[0].reserved", "named twice", "once"),
        (GOOD + "fields: [{level: 4, reserved: [0, -1]}]", "fields[0].reserved", "slot -1", "from 0"),
        (GOOD + "fields: [{level: 4, width: 4, reserved: [0, 16]}]", "fields[0].reserved", "slot 16", "0 to 15"),
        (GOOD + "fields: [{level: 4, reserved: [0, 99999999]}]", "fields[0].reserved", "beyond any field", "lower"),
        (GOOD + "fields: [{level: 4, growth: 20}]", "fields[0].growth", "20 is 2000 % more", "'20 %'"),
        (
            GOOD + "fields: [{level: 4, growth: -0.1}]",
            "fields[0].growth",
            "greater than or equal to 0",
            "15 in a hundred more",
        ),
        (GOOD + "fields: [{level: 5}, {level: 4}]", "fields[1].level", "level 4 stands below level 5", "highest level"),
        (GOOD + "fields: [{level: 5}, {level: village}]", "fields[1].level", "there twice", "one entry"),
        (GOOD + "templates: [a]", "templates", "expected names of templates", "village:"),
        (GOOD + "templates: {1: []}", "templates.1", "must be text", "quotes"),
        (
            GOOD + "templates: {v: [{name: a, zone: pubic, slot: 1}]}",
            "templates.v[0].zone",
            "found 'pubic'",
            "dedicated",
        ),
        (GOOD + "templates: {v: [{name: a, zone: public}]}", "templates.v[0].slot", "is missing", "which part"),
        (
            GOOD + "templates: {v: [{name: a, zone: public, slot: 4}, {name: b, zone: public, slot: 0, length: 60}]}",
            "templates.v[1].slot",
            "'b' overlaps part 0, 'a'",
            "another slot",
        ),
        (
            GOOD + "templates: {v: [{name: a, zone: public, slot: 4}, {name: a, zone: public, slot: 5}]}",
            "templates.v[1].name",
            "'a' is there twice",
            "name of its own",
        ),
        (GOOD + "classes: {410329001000: G}", "classes.410329001000", "no template 'G'", "none yet"),
        (GOOD + "classes: {410329001000: 5}", "classes.410329001000", "found 5", "quotes"),
        (GOOD + "classes: [A]", "classes", "expected division codes", "write"),
        (GOOD + "infrastructure: {links: 0}", "infrastructure.links", "holds the loopbacks already", "another number"),
        (GOOD + "infrastructure: {links: -1}", "infrastructure.links", "greater than or equal to 0", "RFC 6164"),
        (
            GOOD + "infrastructure: {srv6: '3fff:410:380::/48'}",
            "infrastructure.srv6",
            "overlaps the pool 3fff:410:300::/40",
            "RFC 9602",
        ),
        (GOOD + "infrastructure: {srv6: 10.0.0.0/8}", "infrastructure.srv6", "an IPv4 block", "IPv6"),
        (GOOD + "infrastructure: none", "infrastructure", "expected keys", "loopbacks"),
        ("- pools", None, "expected keys like 'pools:'", "example-policy.yaml"),
        ("", None, "expected keys like 'pools:'", "example-policy.yaml"),
        ("pools: [", None, "expected", "example-policy.yaml"),
        (b"pools: \xd6\xd0\n", None, "not UTF-8 at byte 7", "save it as UTF-8"),
    ],
)
def test_mistakes(tmp_path: Path, text: str | bytes, key: str | None, what: str, todo: str) -> None:
    """Each kind of mistake is found, at its key, with a way out."""
    found = problems(tmp_path, text)
    assert any(p.column == key and what in p.what and todo in p.todo for p in found), [str(p) for p in found]
    assert all(p.file == "policy.yaml" for p in found)


def test_all_at_once(tmp_path: Path) -> None:
    """Mistakes of all parts, and contradictions between them, are told together, each with its line."""
    text = """\
pools:
  - 3fff:410:300::/40
  - 3fff:410:0400::/40
colour: red
fields:
  - {level: village, width: 12, reserved: [0]}
  - {level: town}
comfortable: 0.9
classes: {410329001000: Z}
"""
    found = {(p.row, p.column) for p in problems(tmp_path, text)}
    assert found == {
        (3, "pools[1]"),
        (4, "colour"),
        (7, "fields[1].level"),
        (8, "comfortable"),
        (9, "classes.410329001000"),
    }


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there, or a folder, is told as such."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputProblemsError, match="cannot be read"):
            read_plan_policy(path)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(allow_nan=True),
    st.sampled_from(["auto", "centre", "town", "20 %", "x %", "3fff::/32", "public", "3fff:1::/32", "A", ""]),
)
KEYS = st.sampled_from(
    [*PlanPolicy.model_fields, *LevelField.model_fields, "zone", "slot", "length", "srv6", "links", "A", "x[0]"]
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(list(PlanPolicy.model_fields)), TREES, max_size=6))
def test_nothing_but_problems(tmp_path: Path, data: dict[str, Any]) -> None:
    """Whatever a file holds, it is a policy or a list of problems, never another error."""
    path = write(tmp_path, yaml.safe_dump({"pools": ["3fff::/32"], **data}, allow_unicode=True))
    found: tuple[Problem, ...] = ()
    try:
        policy = read_plan_policy(path)
    except InputProblemsError as error:
        found = error.problems
    else:
        assert policy.pools
        return
    assert found
    assert all(p.what and p.todo for p in found)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("10.0.0.0/8", "--pool 10.0.0.0/8: an IPv4 block"),
        ("3fff::/60", "--pool 3fff::/60: too small for prefixes of /56"),
        ("3fff::1/40", "write 3fff::/40"),
        ("fe80::/32", "--pool fe80::/32: lies outside 2000::/3"),
    ],
)
def test_pools_of_the_command_line(pool: str, message: str) -> None:
    """A pool given by itself is judged as one in a file is."""
    with pytest.raises(PolicyPoolError) as caught:
        default_policy(pool)
    assert message in str(caught.value)


def test_another_pool() -> None:
    """A policy with another pool is the same but for the pool, which must not meet the locators or be a test's."""
    policy = read_plan_policy(EXAMPLE)
    assert replace_pool(policy, "3fff:500::/36").altered(pools=policy.pools) == policy
    with pytest.raises(PolicyPoolError, match="RFC 9637"):
        replace_pool(policy.altered(production=True), "3fff:500::/36")
    locators = policy.infrastructure.altered(srv6=IPv6Network("3fff:700::/48"))
    with pytest.raises(PolicyPoolError, match=r"overlaps infrastructure\.srv6"):
        replace_pool(policy.altered(infrastructure=locators), "3fff:700::/36")


@pytest.mark.parametrize(
    ("text", "key", "row"),
    [
        (GOOD + "a: &a [*a]\n", "a[0]", 2),
        (GOOD + "classes: &c {}\ntemplates: *c\n", "templates", 3),
        (GOOD + "x: &x {k: 1}\ny:\n  - k: 1\n    <<: *x\n", "y[0].<<", 5),
        ("&p pools: [*p]\n", "pools[0]", 1),
        (GOOD + "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 31)), "k1[0]", 2),
        (GOOD + "x: &x {k: 1}\n" + "".join(f"y{n}: {{*x : 1}}\n" for n in range(3)), "y0", 3),
    ],
)
def test_aliases_are_refused(tmp_path: Path, text: str, key: str, row: int) -> None:
    """An alias is told at once, with its key and line: a few nested ones stand for more than any memory holds."""
    (found,) = problems(tmp_path, text)
    assert (found.column, found.row) == (key, row)
    assert "repeats another part" in found.what
    assert "write it out" in found.todo


def test_numbers_beyond_reason(tmp_path: Path) -> None:
    """A width of billions, and a part or a /64 that no site has, are told of, not reckoned with."""
    (found,) = problems(tmp_path, GOOD + "fields: [{level: 4, width: 99999999999}]")
    assert found.column == "fields[0].width"
    (found,) = problems(tmp_path, GOOD + "templates: {town: [{name: x, zone: public, slot: 256, length: 8}]}")
    assert "slot 256 does not exist" in found.what
    (found,) = problems(tmp_path, GOOD + f"infrastructure: {{links: {1 << 64}}}")
    assert found.column == "infrastructure.links"
