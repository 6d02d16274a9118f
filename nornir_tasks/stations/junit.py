"""Results as JUnit XML, which every CI reads: a suite a station, a case a check."""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree as ET

from inventory.errors import ExtranetError
from nornir_tasks.stations.model import Outcome, Result

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-�\U00010000-\U0010ffff]")

EXCEPTIONS = "exceptions"
"""The property of a suite that holds the exceptions that stand."""


class JunitWriteError(ExtranetError):
    """The report could not be written; an older one is untouched."""

    exit_code = 4

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path}: report not written: {why}; free space, or name another place with --junit")


def write_junit(
    results: Iterable[Result],
    path: Path,
    *,
    evidence: str = "",
    digests: Mapping[str, str] = MappingProxyType({}),
    exceptions: Sequence[str] = (),
) -> None:
    """Write a report, whole or not at all: a failed check is a failure, an unknown one an error, never left out.

    An empty run is written as one error, because a report without cases is green in every CI. `evidence` is the digest
    of the evidence that holds the results, `digests` that of each result by its check's id; each case's properties name
    both. `exceptions` are those that stand, a line each: every suite has them as a property.

    Raises:
        JunitWriteError: full disk, no rights or no such folder.
    """
    root = _report(list(results), evidence, digests)
    if exceptions:
        _add_property(root, EXCEPTIONS, join_exceptions(exceptions))
    text = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    ready: str | None = None
    try:
        descriptor, ready = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(ready).chmod(0o644)
        Path(ready).replace(path)
    except OSError as error:
        if ready is not None:
            Path(ready).unlink(missing_ok=True)
        raise JunitWriteError(path, error.strerror or str(error)) from error


def join_exceptions(lines: Iterable[str]) -> str:
    """Return exceptions as the value of one property, which holds no line breaks."""
    return _clean(" | ".join(lines))


def _add_property(root: ET.Element, name: str, value: str) -> None:
    """Give every suite a property, which stands before its cases."""
    for suite in root.iter("testsuite"):
        properties = ET.Element("properties")
        ET.SubElement(properties, "property", name=name, value=value)
        suite.insert(0, properties)


def _report(
    results: Sequence[Result], evidence: str = "", digests: Mapping[str, str] = MappingProxyType({})
) -> ET.Element:
    root = ET.Element("testsuites", name="extranet")
    by_station: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_station[result.check.station].append(result)
    for station, own in by_station.items():
        root.append(_suite(station, own, evidence, digests))
    if not results:
        suite = ET.SubElement(root, "testsuite", name="extranet", tests="1", failures="0", errors="1", skipped="0")
        case = ET.SubElement(suite, "testcase", classname="extranet", name="verify")
        ET.SubElement(case, "error", message="no check was run - expected at least one, found none", type="unknown")
    cases = max(len(results), 1)
    failures = sum(r.outcome is Outcome.FAILED for r in results)
    errors = sum(r.outcome is Outcome.UNKNOWN for r in results) if results else 1
    for name, number in (("tests", cases), ("failures", failures), ("errors", errors)):
        root.set(name, str(number))
    return root


def _suite(station: str, results: Sequence[Result], evidence: str, digests: Mapping[str, str]) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=_clean(station),
        tests=str(len(results)),
        failures=str(sum(r.outcome is Outcome.FAILED for r in results)),
        errors=str(sum(r.outcome is Outcome.UNKNOWN for r in results)),
        skipped="0",
        time=_seconds(sum(r.ms for r in results)),
        timestamp=_moment(min(r.at for r in results)),
        hostname=_clean(station),
    )
    for result in results:
        suite.append(_case(result, {"evidence": evidence, "result": digests.get(result.check.id, "")}))
    return suite


def _case(result: Result, proof: Mapping[str, str]) -> ET.Element:
    check = result.check
    mark = "!" if check.expect == "blocked" else ""
    name = f"{check.plane}-{mark}{check.service}-{check.family.value}"
    case = ET.Element("testcase", classname=_clean(check.station), name=_clean(name), time=_seconds(result.ms))
    properties = ET.SubElement(case, "properties")
    facts = {
        "check": check.id,
        "expect": check.expect,
        "address": check.address,
        "unit": check.unit or "",
        "at": _moment(result.at),
        "path": " → ".join(result.hops),
        "return": " → ".join(result.return_hops),
        **proof,
    }
    for key, value in facts.items():
        if value:
            ET.SubElement(properties, "property", name=key, value=_clean(value))
    if result.outcome is not Outcome.PASSED:
        kind = "failure" if result.outcome is Outcome.FAILED else "error"
        said = ET.SubElement(case, kind, message=_clean(result.why), type=(result.missing or result.outcome).value)
        said.text = _clean("\n".join(f"{f.outcome.value:8}{f.aspect}: {f.detail}" for f in result.findings))
    return case


def _clean(text: str) -> str:
    """Drop what XML 1.0 cannot hold: a service may answer with any byte."""
    return _NOT_XML.sub("�", text)


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.3f}"


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "1970-01-01T00:00:00"
