"""A short, repeatable run of the fuzz targets of the wire."""

import pytest

from tests.fuzz.drive import drive
from tests.fuzz.fuzz_protocol import targets

TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_input_is_refused_in_our_words(target):
    assert drive(target, seed=7, runs=100) == 100


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_seeds_are_accepted(target):
    for seed in target.seeds:
        target.run(seed)
