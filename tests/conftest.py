"""Fixtures that tests of every room may ask for, and how laws are tried."""

from hypothesis import settings

from tests.lab_fixture import county_copy, small_lab

__all__ = ["county_copy", "small_lab"]

# A run tells the same each time it is asked; `--hypothesis-profile=searching` looks for examples that were never tried.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("searching", derandomize=False, print_blob=True)
settings.load_profile("repeatable")
