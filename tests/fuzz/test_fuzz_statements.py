"""A short, repeatable run of the fuzz targets of signed documents and the log."""

import pytest

from tests.fuzz.drive import drive, survive
from tests.fuzz.fuzz_statements import targets

TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_survives_mutated_input(target):
    assert drive(target, seed=3, runs=150) == 150


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_seeds_are_accepted_by_their_target(target):
    """Else every mutation would end at the first check."""
    for seed in target.seeds:
        target.run(seed)
        survive(target, seed)
