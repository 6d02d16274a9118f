"""Fixtures that tests of every room may ask for."""

from tests.lab_fixture import county_copy, small_lab

__all__ = ["county_copy", "small_lab"]
