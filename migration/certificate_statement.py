"""The first page of a certificate in sentences: what was taken away, who recorded it, how it was watched and proven.

Each sentence says only what the ledger holds, and says so where it holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from inventory.wording import counted, say_span
from migration.certificate import FeltOutage, Run, UnitCertificate
from migration.certificate_words import Language, say_time, words
from migration.soak import SoakOnRecord
from migration.units import Step

_SOURCES = {
    "counters": ("计数器除路由协议报文外为零", "the counters of its ports stood at zero but for routing hellos"),
    "neighbors": ("线路上无其他主机", "nobody else was heard on it"),
    "flows": ("无任何会话", "no conversation was heard"),
    "routes": ("无路由经由旧线路", "no route led over it"),
    "config": ("无配置引用旧网", "no configuration named the old network"),
    "names": ("无域名指向旧地址", "no name led to an old address"),
}
_CHINESE_UNITS = ((" d", "天"), (" h", "小时"), (" min", "分钟"), (" s", "秒"))


class Sentence(NamedTuple):
    """One thing that is stated: under which heading, and in words."""

    heading: str
    text: str


def state_unit(unit: UnitCertificate, lang: Language) -> Iterator[Sentence]:
    """Yield what is certified of a unit, in the order in which an office reads it."""
    w = words(lang)
    for name, say in _SENTENCES.items():
        yield Sentence(w[name], say(unit, lang))


def say_actor(actor: str, lang: Language) -> str:
    """Name who recorded something; a bare account is called that, as it is nobody's title."""
    bare = actor == "root" or actor.startswith("uid ")
    return (f"账号 {actor}" if lang == "zh" else f"account {actor}") if bare else actor


def say_about(run: Run, lang: Language) -> str:
    """Name what a run of evidence was about: the stage that it decided, its units, or the stations and planes it measured."""
    w = words(lang)
    if run.step is not None:
        return str(w["decided"] % w["steps"][run.step])
    if run.units:
        shown, more = ", ".join(run.units[:2]), len(run.units) - 2
        return str(w["about_more"] % (shown, more)) if more > 0 else shown
    if not run.stations:
        return str(w["about_lost"])
    return str(w["about_planes"] % (run.stations, ", ".join(run.planes)))


def say_reason(reason: str, lang: Language) -> str:
    """Say why a try was not kept. In Chinese what is no set phrase of ours stays as it was recorded, and is called that."""
    if lang == "en" or not reason:
        return reason
    if reason in _CHINESE_REASONS:
        return _CHINESE_REASONS[reason]
    by = reason.removeprefix("interrupted by ")
    return f"被 {by} 中断" if by != reason else f"记录原文：{reason}"


_CHINESE_REASONS = {"interrupted; everything went back": "中断，已全部退回", "not kept": "未保留"}


def list_bound(unit: UnitCertificate, lang: Language) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each thing that proofs were bound to, once for each digest it had: what, its digest, at which steps."""
    w = words(lang)
    steps: dict[tuple[str, str], list[str]] = {}
    for proof in unit.proofs:
        held = {w["inventory"]: proof.inventory, w["plan"]: proof.plan} | dict(sorted(proof.configs.items()))
        for what, digest in held.items():
            steps.setdefault((what, digest), []).append(w["steps"][proof.step])
    order = list(dict.fromkeys(what for what, _ in steps))
    for what, digest in sorted(steps, key=lambda key: order.index(key[0])):
        yield what, digest, list(dict.fromkeys(steps[what, digest]))


def say_exceptions(unit: UnitCertificate, lang: Language) -> str:
    """Say whether exceptions are on record."""
    names = ", ".join(x.id for x in unit.exceptions)
    if lang == "zh":
        return f"有 {len(unit.exceptions)} 项例外审批（{names}），见上。" if unit.exceptions else "无。"
    return f"{len(unit.exceptions)} on record ({names}): see above." if unit.exceptions else "None."


def _say_who(unit: UnitCertificate, lang: Language) -> str:
    actors = list(dict.fromkeys(say_actor(s.actor, lang) for s in unit.stages))
    d = unit.dossier
    if lang == "zh":
        return f"操作与记录：{'、'.join(actors)}。牵头：{d.lead}；责任：{d.responsible}。"
    return f"Done and recorded by {', '.join(actors)}; lead: {d.lead}; responsible: {d.responsible}."


def _say_line(unit: UnitCertificate, lang: Language) -> str:
    d = unit.dossier
    both = ((d.device, d.port), (d.far_device, d.far_port))
    ends = [" ".join(filter(None, end)) for end in both if any(end)]
    where = " — ".join(ends) or "-"
    rent = f"¥{d.monthly_rent_yuan:,}"
    if lang == "zh":
        rented = f"，{d.provider or '自有'} {d.bandwidth_mbps} Mbit/s，月租 {rent}" if d.rented else ""
        return f"{d.tenant}“{d.network_name}”，{d.site_name}，线路 {d.circuit}{rented}；{_ENDS[len(ends) > 1][0]} {where}。"
    rented = f", {d.provider or 'own'} {d.bandwidth_mbps} Mbit/s, {rent} a month" if d.rented else ""
    return (
        f"{d.tenant}: {d.network_name} at {d.site_name}, line {d.circuit}{rented}; {_ENDS[len(ends) > 1][1]} {where}."
    )


_ENDS = (("仅此一端", "its one end"), ("两端", "ends"))


def _say_soak(unit: UnitCertificate, lang: Language) -> str:
    soak = unit.soak
    if soak is None:
        return "台账未记录观察经过。" if lang == "zh" else "How it was watched is not in the ledger."
    return _say_watch(soak, lang) + _say_excuse(soak, lang)


def _say_watch(soak: SoakOnRecord, lang: Language) -> str:
    if soak.begun is None or soak.ended is None:
        return "没有连续的干净取样。" if lang == "zh" else "There was no unbroken run of clean samples."
    length = _span((soak.ended - soak.begun).total_seconds(), lang)
    begun, ended = say_time(soak.begun), say_time(soak.ended)
    if lang == "zh":
        seen = "，".join(_SOURCES[s][0] for s in soak.known if s in _SOURCES)
        hours = f"{soak.hours}（{soak.time_zone}）"
        return (
            f"自 {begun} 至 {ended}（{length}），对旧线路不间断取样 {soak.samples} 次，每次均未见使用：{seen}；"
            f"覆盖 {soak.days} 个工作日（要求 {soak.wanted_days} 个，每日 {hours}内不少于 {soak.samples_a_day} 次）。"
        )
    seen = ", ".join(_SOURCES[s][1] for s in soak.known if s in _SOURCES)
    return (
        f"From {begun} to {ended} ({length}) the old line was looked at {soak.samples} times without a break, and nobody "
        f"used it: each time {seen}. {counted(soak.days, 'business day')} covered ({soak.wanted_days} asked for, with "
        f"{counted(soak.samples_a_day, 'sample')} each in {soak.hours}, {soak.time_zone})."
    )


def _say_excuse(soak: SoakOnRecord, lang: Language) -> str:
    if not soak.excused_by:
        return ""
    asked = _span(soak.wanted_s, lang)
    if lang == "zh":
        return f"观察期（要求 {asked}）未满，依例外 {soak.excused_by} 提前结束。"
    return f" The soak ({asked} asked for) was cut short under exception {soak.excused_by}."


def _say_proof(unit: UnitCertificate, lang: Language) -> str:
    w = words(lang)
    # At the cutover the gateway left the old path; its line was up then, as it was at the drain.
    steps = [w["steps"][p.step] for p in unit.proofs if p.line_closed]
    beside = [w["steps"][p.step] for p in unit.proofs if not p.line_closed]
    last = unit.proofs[-1]
    open_ = [(sum(s.ipv6[0] for s in last.stations), sum(s.ipv6[1] for s in last.stations))]
    open_.append((sum(s.ipv4[0] for s in last.stations), sum(s.ipv4[1] for s in last.stations)))
    closed = (sum(s.closed[0] for s in last.stations), sum(s.closed[1] for s in last.stations))
    failed = sum(p.asked - p.passed for p in unit.proofs)
    parts = ", ".join(f"{n} {a}/{b}" for n, (a, b) in zip(("IPv6", "IPv4"), open_, strict=True))
    compared = sum(p.compared or 0 for p in unit.proofs)
    differing = sum(p.differing or 0 for p in unit.proofs)
    at = say_time(last.taken_from)
    if lang == "zh":
        whole = f"其中 {failed} 项未通过，依例外审批放行" if failed else "全部通过"
        others = f"同时比对其他站点 {compared} 项，{differing or '无'}变化。" if compared else ""
        return (
            f"在旧线路关闭的情况下实测 {len(steps)} 次（{'、'.join(steps)}），线路未关时实测 {len(beside)} 次"
            f"（{'、'.join(beside)}），{whole}；最后一次 {at}，"
            f"{len(last.stations)} 个站点 {last.asked} 项：{parts}，隔离 {closed[0]}/{closed[1]}。{others}"
        )
    whole = f"{counted(failed, 'check')} did not pass, under the exceptions above" if failed else "every check passed"
    others = f" Of {compared} checks of everybody else {differing or 'none'} came out otherwise." if compared else ""
    return (
        f"Measured {counted(len(steps), 'time')} with the old line closed ({', '.join(steps)}) and "
        f"{counted(len(beside), 'time')} with it up ({', '.join(beside)}): {whole}. The last time, {at}, "
        f"{counted(last.asked, 'check')} from {counted(len(last.stations), 'station')}: {parts}, isolation "
        f"{closed[0]}/{closed[1]}.{others}"
    )


def _say_outage(unit: UnitCertificate, lang: Language) -> str:
    cut = [o for o in unit.outages if o.step is Step.CUTOVER]
    later = [o for o in unit.outages if o.step is not Step.CUTOVER]
    if not unit.outages:
        return "台账未记录中断。" if lang == "zh" else "No watch of the windows is in the ledger."
    w = words(lang)
    told = []
    for name, group in ((w["steps"][Step.CUTOVER], cut), (w["later"], later)):
        if group:
            told.append(f"{name}{'：' if lang == 'zh' else ': '}{_say_felt(group, lang)}")
    return "；".join(told) + "。" if lang == "zh" else "; ".join(told) + "."


def _say_felt(outages: list[FeltOutage], lang: Language) -> str:
    worst = max((o.worst_s or 0.0 for o in outages), default=0.0)
    ways, felt = max(o.targets for o in outages), max(o.felt for o in outages)
    finest = max((o.resolution_s or 0.0 for o in outages), default=0.0)
    unknown = sum(o.unknown for o in outages)
    if all(o.resolution_s is None for o in outages):  # of none it is known, so nothing is said of how long
        if lang == "zh":
            return f"{ways} 条业务路径此前均不通或未能监测，中断情况不明"
        return f"nothing is known of {ways} ways: none worked before, or none could be watched"
    if lang == "zh":
        text = (
            f"{ways} 条业务路径中 {felt} 条有感，最长 {worst:.1f} 秒"
            if felt
            else f"{ways} 条业务路径均无长于 {finest:.1f} 秒的中断"
        )
        return text + (f"，{unknown} 条不明" if unknown else "")
    text = (
        f"{felt} of {ways} ways felt it, {worst:.1f} s at most"
        if felt
        else f"none of {ways} ways was gone for longer than {finest:.1f} s"
    )
    return text + (f", {unknown} not known" if unknown else "")


def _say_fate(unit: UnitCertificate, lang: Language) -> str:
    w, release = words(lang), unit.release
    if release is None:
        said = w["not_yet"]
    elif release.how == "released":
        saved = f"{release.saved_yuan:,}"
        said = w["released"] % (release.provider, release.reference, release.rent_free_from, saved)
    elif release.how == "taken over":
        said = w["taken_over"] % release.taken_over_by
    else:
        said = w["not_rented"]
    held = ", ".join(f"{q.prefix} ({w['held'] % q.until})" for q in unit.quarantine)
    return f"{said}；{w['prefixes']}：{held}。" if lang == "zh" else f"{said}. {w['prefixes']}: {held}."


def _span(seconds: float, lang: Language) -> str:
    text = say_span(seconds)
    if lang == "zh":
        for english, chinese in _CHINESE_UNITS:
            text = text.replace(english, f" {chinese}")
    return text


def _say_setbacks(unit: UnitCertificate, lang: Language) -> str:
    number = len(unit.setbacks)
    if lang == "zh":
        return f"{number} 次，见附件 F。" if number else "无。"
    return f"{number}, in annex F." if number else "None."


_SENTENCES: dict[str, Callable[[UnitCertificate, Language], str]] = {
    "head_line": _say_line,
    "head_who": _say_who,
    "head_soak": _say_soak,
    "head_proof": _say_proof,
    "head_outage": _say_outage,
    "head_setbacks": _say_setbacks,
    "head_fate": _say_fate,
    "head_exceptions": say_exceptions,
}
