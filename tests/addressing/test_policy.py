"""What a layout may hold: damaged ones are refused where they are read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from addressing.policy import LaidField, Layout

TOWN: dict[str, Any] = {"level": 4, "name": "town", "width": 8, "length": 48, "order": "centre", "reserved": [0]}
VILLAGE = TOWN | {"level": 5, "name": "village", "length": 56}
SOUND: dict[str, Any] = {"pools": ["3fff:329::/40", "3fff:429::/40"], "fields": [TOWN, VILLAGE], "root_level": 3}


def test_a_sound_layout() -> None:
    """It is read, with a field of no bits and one without a root too."""
    assert Layout.model_validate(SOUND).length(5) == 56
    none = TOWN | {"width": 0, "length": 40}
    assert Layout.model_validate(SOUND | {"fields": [none], "root_level": 0}).length(4) == 40


@pytest.mark.parametrize(
    "change",
    [
        {"width": -1},
        {"width": 65},
        {"width": 10**12},
        {"length": 0},
        {"length": 65},
        {"level": 0},
        {"level": 10**30},
        {"order": "middle"},
        {"reserved": [0, 256]},
        {"reserved": [-1]},
        {"reserved": [10**40]},
    ],
)
def test_damaged_fields(change: dict[str, Any]) -> None:
    """A field of impossible numbers is a ValidationError."""
    with pytest.raises(ValidationError):
        LaidField.model_validate(TOWN | change)


@pytest.mark.parametrize(
    "change",
    [
        {"pools": []},
        {"pools": ["3fff:329::/40", "3fff:400::/44"]},
        {"pools": ["10.0.0.0/8"]},
        {"pools": ["3fff:329::1/128"], "fields": []},
        {"pools": ["::/0"], "fields": []},
        {"fields": [VILLAGE, TOWN]},
        {"fields": [TOWN, TOWN | {"length": 56}]},
        {"fields": [VILLAGE]},
        {"fields": [TOWN, VILLAGE | {"width": 9}]},
        {"root_level": -1},
        {"root_level": 10},
    ],
)
def test_damaged_layouts(change: dict[str, Any]) -> None:
    """Fields out of order or that do not add up, and pools that are none, are a ValidationError."""
    with pytest.raises(ValidationError):
        Layout.model_validate(SOUND | change)
