"""Names of divisions compared: what of a name says which place it is, and what only says of which kind.

瓦东村村民委员会, 瓦东村委会 and 瓦东村 are one name; 瓦东社区居民委员会 is the same place as another kind.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher
from functools import lru_cache

_CACHED = 1 << 16
_NOISE = re.compile(r"[\s·•・.,，、\-—()（）\[\]【】'\"“”]+")
_PEOPLES = (
    "各族|[满蒙回藏苗壮彝侗瑶白傣黎畲羌水佤京怒]族|蒙古族|土家族|哈尼族|傈僳族|维吾尔族?|哈萨克族?|朝鲜族|布依族|"
    "拉祜族|纳西族|景颇族|仡佬族|锡伯族?|达斡尔族?|鄂温克族?|鄂伦春族?|柯尔克孜族?|塔吉克族?|撒拉族|仫佬族|毛南族|"
    "布朗族|普米族|裕固族|保安族|东乡族|土族|独龙族|德昂族|阿昌族|基诺族|门巴族|珞巴族|俄罗斯族?|乌孜别克族?|塔塔尔族?"
)
# What a kind's names end in, longest first; each ends a name only once its place is left.
_COMMITTEES = (
    (re.compile("(?:村民|牧民|渔民)委员会$|村民委会$|村委会$|牧委会$"), "村"),
    (re.compile("(?:居民|家属|社区)委员会$|居民委会$|居委会$|家委会$"), "社区"),
    (re.compile("(?:街道|地区)?办事处$|街道$"), "街道"),
)
_VILLAGES = re.compile("(?<=.)(?:社区|村)+$")
_KINDS = tuple(
    (re.compile(f"(?:{ending})$"), kind)
    for ending, kind in (
        ("社区", "社区"),
        ("村", "村"),
        (f"(?:{_PEOPLES})*(?:民族)?(?:自治)?[县旗]", "县"),
        (f"(?:{_PEOPLES})*民族?乡|(?:{_PEOPLES})*乡", "乡"),
        ("苏木", "乡"),
        ("镇", "镇"),
        (f"(?:{_PEOPLES})*自治[州区]", "州"),
        (f"(?:{_PEOPLES})*区", "区"),
        ("市|省|盟|地区", "市"),
    )
)


def fold_name(name: str) -> str:
    """Return a name without what differs between typists: widths, blanks, brackets and points."""
    return _NOISE.sub("", unicodedata.normalize("NFKC", name))


@lru_cache(_CACHED)
def split_name(name: str) -> tuple[str, str]:
    """Return (place, kind) of a name; the kind is empty where nothing tells."""
    place = fold_name(name)
    for ending, said in _COMMITTEES:
        found = ending.search(place)
        if found and found.start() > 0:
            # What a committee's village or community is called ends in no other kind: 红旗 is no banner.
            rest = place[: found.start()]
            return _VILLAGES.sub("", rest) if said != "街道" else rest, said
    for ending, said in _KINDS:
        found = ending.search(place)
        if found and found.start() > 0:
            rest = place[: found.start()]
            return _VILLAGES.sub("", rest) if said == "社区" else rest, said
    return place, ""


def place_of(name: str) -> str:
    """Return the part of a name that says which place it is."""
    return split_name(name)[0]


def likeness(one: str, other: str) -> float:
    """Return how alike two names' places are, 0 to 1; at least 0.6 when one holds the other."""
    a, b = place_of(one), place_of(other)
    if a == b:
        return 1.0
    ratio = SequenceMatcher(None, a, b, autojunk=False).ratio()
    short, long = sorted((a, b), key=len)
    return max(ratio, 0.6) if len(short) > 1 and short in long else ratio
