"""The access file says how to reach things; its place, not its word, says whether they are a lab's."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.access import AccessFileError, AccessMissingError, read_access

TEXT = "target: {target}\nname: x\nknown_hosts: known_hosts\naddresses: {{}}\n{more}"


@pytest.mark.parametrize(
    ("place", "target", "more"),
    [("access.yaml", "lab", "towns: 1\n"), (".lab/access.yaml", "field", ""), ("access.yaml", "field", "towns: 1\n")],
)
def test_file_in_the_wrong_place_is_refused(tmp_path: Path, place: str, target: str, more: str) -> None:
    """A lab's file copied into the field (or the reverse) is refused, and a real county is never taken in part."""
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(TEXT.format(target=target, more=more), "utf-8")
    with pytest.raises(AccessFileError):
        read_access(tmp_path)


def test_lab_wins_while_it_is_up(tmp_path: Path) -> None:
    """With both files the lab's is read; without any, that is said."""
    with pytest.raises(AccessMissingError):
        read_access(tmp_path)
    (tmp_path / "access.yaml").write_text(TEXT.format(target="field", more=""), "utf-8")
    assert read_access(tmp_path).target == "field"
    (tmp_path / ".lab").mkdir()
    (tmp_path / ".lab" / "access.yaml").write_text(TEXT.format(target="lab", more=""), "utf-8")
    assert read_access(tmp_path).target == "lab"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "access.yaml: expected `key: value` lines, found something else; correct it"),
        ("target: field", "access.yaml: name: field required; correct it"),
        (TEXT.format(target="field", more="port: many"), "access.yaml: port: input should be a valid integer"),
        (TEXT.format(target="field", more="towns: 3"), "access.yaml: towns is for labs only: a real county is always"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    """One line: the file, the key, what is wrong with it and what was found."""
    (tmp_path / "access.yaml").write_text(text, "utf-8")
    with pytest.raises(AccessFileError) as caught:
        read_access(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
