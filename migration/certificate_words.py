"""The certificate's words, in Chinese and in English."""

# ruff: noqa: ISC004 - each pair is (Chinese, English), and long English runs over two lines

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Literal

Language = Literal["zh", "en"]
BEIJING = timezone(timedelta(hours=8))

_STATES = {
    "surveyed": ("已调查", "surveyed"),
    "planned": ("已规划", "planned"),
    "provisioned": ("外网已开通", "provisioned"),
    "proven": ("已验证（网关切离旧路径）", "proven, gateway off the old path"),
    "cut_over": ("已割接", "cut over"),
    "soaked": ("观察期满", "soaked"),
    "drained": ("流量已排空", "drained"),
    "shut": ("端口已关闭", "shut"),
    "removed": ("配置已拆除", "removed"),
    "released": ("线路已退租或移交", "line given back"),
}
_STEPS = {
    "cutover": ("割接", "cutover"),
    "proof": ("验证", "proof"),
    "prove": ("验证", "proof"),
    "soak": ("观察", "soak"),
    "drain": ("排空", "drain"),
    "shut": ("关闭", "shut"),
    "remove": ("拆除", "removal"),
    "release": ("退租", "release"),
    "back": ("退回", "back"),
}
_RESULTS = {
    "done": ("已完成", "done"),
    "undone": ("已退回", "undone"),
    "failed": ("结果未知", "outcome not known"),
}
_WORDS = {
    "title": ("专网线路撤销证明", "Certificate of Retirement"),
    "number": ("编号", "No."),
    "rehearsal": ("演练文件：在实验环境中完成，不作为撤销依据", "Rehearsal: done in a lab, retires nothing"),
    "certify": (
        "兹证明“%s”在“%s”的旧专网线路（%s）已按程序撤销；各窗口业务均已在关闭旧线路的情况下实测通过。以下内容全部取自运行记录（台账）。",
        "This certifies that the legacy line of %s at %s (%s) was retired in stages; every need of its windows was measured "
        "and passed with the old line closed. Everything below is taken from the ledger.",
    ),
    "certify_except": (
        "兹证明“%s”在“%s”的旧专网线路（%s）已按程序撤销，但存在下列例外。以下内容全部取自运行记录（台账）。",
        "This certifies that the legacy line of %s at %s (%s) was retired in stages, under the exceptions below. Everything "
        "below is taken from the ledger.",
    ),
    "exceptions": ("注意：本次撤销有例外审批记录", "Attention: exceptions are on record for this retirement"),
    "by": ("申请", "by"),
    "approved": ("批准", "approved by"),
    "one_login": ("提出与批准用同一账号", "both on one account,"),
    "withdrawn": ("撤回", "withdrawn by"),
    "head_line": ("线路", "The line"),
    "head_who": ("办理", "Who"),
    "head_soak": ("观察", "The soak"),
    "head_proof": ("实测", "The proof"),
    "head_outage": ("业务中断", "Felt at the windows"),
    "head_setbacks": ("退回", "Tries that went back"),
    "head_fate": ("线路处置", "What became of the line"),
    "head_exceptions": ("例外", "Exceptions"),
    "later": ("其后各阶段", "every later stage"),
    "stages": ("各阶段", "The stages"),
    "line": ("A. 线路", "A. The line"),
    "unit": ("单元", "Unit"),
    "network": ("专网", "Network"),
    "tenant": ("所属部门", "Department"),
    "lead": ("牵头与责任", "Lead; responsible"),
    "site": ("站点", "Site"),
    "circuit": ("线路编号", "Circuit"),
    "provider": ("运营商、带宽", "Provider, bandwidth"),
    "rent": ("月租（元）", "Rent a month (yuan)"),
    "contract_end": ("合同到期", "Contract end"),
    "ends": ("两端设备端口", "Routers and ports"),
    "prefixes": ("地址隔离", "Addresses in quarantine"),
    "held": ("%s 前不另行分配", "given to nobody else until %s"),
    "released": (
        "已通知%s退租，文号 %s，%s 起停租，每月节省 ¥%s",
        "%s was told by notice %s: no rent from %s, ¥%s a month saved",
    ),
    "taken_over": ("由外网电路 %s 继续使用，不退租", "taken over by the extranet's circuit %s, not released"),
    "not_rented": ("自有，无租用线路", "not rented: nobody had to be told"),
    "not_yet": ("尚未退租", "not given back yet"),
    "stage": ("阶段", "Stage"),
    "when": ("时间", "When"),
    "actor": ("操作人（岗位或账号）", "Recorded by (title or account)"),
    "event": ("台账序号", "Event"),
    "setbacks": ("F. 期间自动或人工退回的操作", "F. Tries that went back, by themselves or by hand"),
    "proven": ("B. 实测结果", "B. What was measured"),
    "proven_as": ("通过数/应测数：IPv6 · IPv4 · 隔离", "Passed of asked: IPv6 · IPv4 · isolation"),
    "line_up": ("旧线路未关", "old line up"),
    "station": ("站点窗口", "Station"),
    "services": ("业务", "Services"),
    "sign_operator": ("承办人：", "Operator:"),
    "sign_tenant": ("使用部门：", "Department:"),
    "sign_office": ("监督单位（盖章）：", "Supervising office (seal):"),
    "sign_date": ("日期：", "Date:"),
    "annex": ("附件", "Annexes"),
    "annex_runs": ("C. 证据摘要", "C. Digests of evidence"),
    "annex_bound": (
        "D. 测量时的清单、地址规划与设备配置",
        "D. Inventory, plan and configurations that it was measured under",
    ),
    "annex_archive": ("E. 旧设备配置存档", "E. Archived configurations"),
    "decided": ("%s的依据", "decided the %s"),
    "about_more": ("%s 及另外 %d 个单元", "%s and %d more"),
    "about_planes": ("站点 %d 个，分区 %s", "stations: %d, planes: %s"),
    "about_lost": ("文件已不在", "its file is gone"),
    "sample": ("最后一次取样", "last sample of the soak"),
    "outage_file": ("中断记录（%s）", "watch of the windows (%s)"),
    "held_at": ("适用阶段", "Held at"),
    "result": ("通过/总数", "Passed/all"),
    "about": ("范围", "About"),
    "what": ("对象", "What"),
    "inventory": ("清单", "inventory"),
    "plan": ("地址规划", "address plan"),
    "state": ("当时状态", "State then"),
    "router": ("路由器", "Router"),
    "rebuild": ("如需重建线路：", "To rebuild the line:"),
    "record": ("台账与核验", "The record, and how to check it"),
    "head": ("本证明取自“%s”台账，截至第 %d 条，哈希：", "Drawn from the ledger of %s up to event %d, whose hash is"),
    "verify": ("核验方法：", "To check:"),
    "verify_ledger": ("重新计算台账哈希链", "recomputes the chain of hashes"),
    "verify_check": (
        "由台账重新生成本证明并逐字节比对",
        "makes this document anew from the ledger and compares every byte",
    ),
    "verify_files": (
        "依次为测量与取样、中断记录、归档配置，应分别等于附件所列摘要",
        "for a measurement or sample, for a watch of the windows, for an archived configuration: "
        "must give the digests of the annex",
    ),
    "made": (
        "时间均为北京时间（UTC+8）。本文件由台账自动生成，相同台账生成的文件逐字节相同。",
        "All times are Beijing time (UTC+8). Made from the ledger by program; the same ledger gives the same bytes.",
    ),
}


def words(lang: Language) -> dict[str, Any]:
    """Return the words of one language by name; those of states, steps and results as tables of their own."""
    which = 0 if lang == "zh" else 1
    out: dict[str, Any] = {name: pair[which] for name, pair in _WORDS.items()}
    for name, table in (("states", _STATES), ("steps", _STEPS), ("gates", _STEPS), ("results", _RESULTS)):
        out[name] = {key: pair[which] for key, pair in table.items()}
    return out


def say_time(at: datetime) -> str:
    """Write a moment as an office in China reads it: Beijing time, to the minute."""
    return f"{at.astimezone(BEIJING):%Y-%m-%d %H:%M}"
