"""What a bit budget says, level by level, to people in English and Chinese and to machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from addressing.ratios import on_nibble
from inventory.wording import counted

Lang = Literal["en", "zh"]
Word = Literal["comfortable", "tight", "painful", "refused"]
Why = Literal["given", "nibble", "comfortable", "ceiling", "least", "empty", "pool"]
Kind = Literal["pool", "leaf", "growth", "ceiling", "width", "known"]


class Remark(NamedTuple):
    """A sentence about a budget, in both languages."""

    en: str
    zh: str

    def text(self, lang: Lang) -> str:
        """Return it in a language."""
        return self.zh if lang == "zh" else self.en


@dataclass(frozen=True)
class Row:
    """One level of the budget. `children` is what the fullest parent has, `grown` what it may come to have.

    `exact` bits just hold what is there today with the reserved slots; `comfortable` bits would do so comfortably, grown.
    `crowded` of `parents` would not stay within the ceiling in one bit less. `hd` is that of the fullest parent, grown.
    """

    level: int
    name: str
    count: int
    children: int
    parent: str
    growth: float
    grown: int
    reserved: int
    exact: int
    comfortable: int
    width: int
    length: int
    hd: float
    word: Word
    why: Why
    parents: int = 0
    crowded: int = 0

    @property
    def nibble(self) -> bool:
        """Whether its prefixes end between two digits of the address."""
        return on_nibble(self.length)

    @property
    def reason(self) -> str:
        """Say why it has this width."""
        return explain_row(self, "en")

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "hd": round(self.hd, 4),
            "nibble": self.nibble,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Alternative:
    """What another pool, or one relaxation of the policy, would give. `kind`: pool, leaf, growth, ceiling or width.

    `known` ones are pools a digit larger and smaller, looked at in any case.
    """

    kind: Kind
    en: str
    zh: str
    works: bool
    pool_length: int
    widths: tuple[int, ...] = ()
    leaf_length: int = 0
    worst_hd: float = 0.0

    def text(self, lang: Lang) -> str:
        """Return it as a sentence."""
        return self.zh if lang == "zh" else self.en

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "kind": self.kind,
            "text": self.en,
            "works": self.works,
            "pool_length": self.pool_length,
            "widths": list(self.widths),
            "leaf_length": self.leaf_length,
            "worst_hd": round(self.worst_hd, 4),
        }


@dataclass(frozen=True)
class Budget:
    """What each level gets and why; `problems` is empty unless it was refused. Rows: highest level first, the root's too."""

    pools: tuple[str, ...]
    pool_length: int
    leaf_at_most: int
    comfortable: float
    ceiling: float
    rows: tuple[Row, ...]
    alternatives: tuple[Alternative, ...] = ()
    notes: tuple[Remark, ...] = ()
    problems: tuple[Remark, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether no layout obeys the policy."""
        return bool(self.problems)

    @property
    def leaf_length(self) -> int:
        """Prefix length of the lowest divisions."""
        return self.rows[-1].length if self.rows else self.pool_length

    @property
    def spare(self) -> int:
        """Bits that stay in the leaf beyond what the policy asks; negative where it is too long."""
        return self.leaf_at_most - self.leaf_length

    @property
    def worst_hd(self) -> float:
        """The HD ratio of the fullest field."""
        return max((r.hd for r in self.rows), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "pools": list(self.pools),
            "refused": self.refused,
            "problems": [p.en for p in self.problems],
            "levels": [r.as_json() for r in self.rows],
            "leaf_length": self.leaf_length,
            "leaf_at_most": self.leaf_at_most,
            "spare_bits": self.spare,
            "comfortable": self.comfortable,
            "ceiling": self.ceiling,
            "notes": [n.en for n in self.notes],
            "alternatives": [a.as_json() for a in self.alternatives],
        }


_LEVELS_ZH = {"province": "省", "city": "市", "county": "县", "town": "乡镇", "village": "村"}
_WORDS_ZH = {"comfortable": "宽松", "tight": "偏紧", "painful": "吃力", "refused": "不可行"}
_HEADS: dict[str, tuple[str, ...]] = {
    "en": ("level", "count", "most children", "grown", "exact bits", "bits", "prefix", "HD", "", "nibble", "why"),
    "zh": ("层级", "数量", "最多下级", "计入增长", "最少位数", "位数", "前缀", "HD 比", "评价", "半字节", "理由"),
}


def level_zh(name: str) -> str:
    """Return a level's name in Chinese; a name of the policy's own as it is."""
    return _LEVELS_ZH.get(name, name)


def say_percent(share: float) -> str:
    """Return a share in per cent, with one decimal where it has any: `84.8 %`, `100 %`."""
    return f"{share * 100:.1f} %".replace(".0 %", " %")


def describe_budget(budget: Budget, lang: Lang = "en") -> list[tuple[str, ...]]:
    """Return a budget as a table for people: the head, then one row a level, each with its reason in a sentence."""
    chinese = lang == "zh"
    rows = [_HEADS[lang]]
    for row in budget.rows:
        under = f"{row.children} ({row.parent})" if row.parent else str(row.children)
        yes, no = ("是", "否") if chinese else ("yes", "no")
        rows.append(
            (
                level_zh(row.name) if chinese else row.name,
                str(row.count),
                under if row.why != "pool" else "",
                str(row.grown) if row.why != "pool" else "",
                str(row.exact),
                str(row.width),
                f"/{row.length}",
                say_percent(row.hd),
                _WORDS_ZH[row.word] if chinese else row.word,
                yes if row.nibble else no,
                explain_row(row, lang),
            )
        )
    return rows


def describe_rest(budget: Budget, lang: Lang = "en") -> list[str]:
    """Return what the table does not say, a line each: problems, notes, and the alternatives looked at."""
    lines = [p.text(lang) for p in (*budget.problems, *budget.notes)]
    return lines + [a.text(lang) for a in budget.alternatives]


def explain_row(row: Row, lang: Lang = "en") -> str:
    """Say in a sentence why a level has its width."""
    if row.why == "pool":
        return "本身即地址池" if lang == "zh" else "the pool itself"
    return _explain_zh(row) if lang == "zh" else _explain_en(row)


def _explain_en(row: Row) -> str:
    if row.why == "empty":
        return f"no divisions yet; {counted(row.width, 'bit')} kept as the policy gives"
    used = row.grown + row.reserved
    need = f"{used} slots with growth {say_percent(row.growth)} and {row.reserved} reserved"
    need += f" are comfortable in {row.comfortable} bits"
    choice = {
        "given": f"the policy gives {row.width}",
        "nibble": f"it gets {row.width}, which end between two digits",
        "comfortable": f"it gets {row.width}",
        "ceiling": f"{row.width} are what the pool leaves",
        "least": f"{row.width} are the least under the ceiling",
    }[row.why]
    tail = f"; one bit less would do for all but {row.crowded} of {row.parents} parents" if _few(row) else ""
    return f"{need}; {choice}{tail}"


def _explain_zh(row: Row) -> str:
    if row.why == "empty":
        return f"尚无区划; 按策略保留 {row.width} 位"
    used = row.grown + row.reserved
    need = f"计入增长 {say_percent(row.growth)} 与 {row.reserved} 个保留槽位共 {used} 个, {row.comfortable} 位才宽松"
    choice = {
        "given": f"策略指定 {row.width} 位",
        "nibble": f"取 {row.width} 位, 止于十六进制数位边界",
        "comfortable": f"取 {row.width} 位",
        "ceiling": f"地址池只容 {row.width} 位",
        "least": f"{row.width} 位为上限内最少",
    }[row.why]
    tail = f"; 少一位时, {row.parents} 个上级中仅 {row.crowded} 个放不下" if _few(row) else ""
    return f"{need}; {choice}{tail}"


def _few(row: Row) -> bool:
    """Whether it is worth saying that only few parents need the last bit."""
    return row.why != "nibble" and 0 < row.crowded * 10 <= row.parents
