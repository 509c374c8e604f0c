"""A short, repeatable run of the fuzz targets of the byte formats, and proof that a target's seeds reach past its first check."""

import pytest

from carnet.errors import CarnetError
from tests.fuzz.drive import Target, drive, survive
from tests.fuzz.fuzz_formats import targets

TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_inputs_are_refused_in_our_words(target: Target) -> None:
    assert drive(target, seed=20, runs=60 if target.name == "chunking" else 600) > 0


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_accepts_one_of_its_seeds(target: Target) -> None:
    refusals = 0
    for seed in target.seeds:
        try:
            target.run(seed)
        except CarnetError:
            refusals += 1

    assert refusals < len(target.seeds)


def test_a_finding_is_reported_with_its_input() -> None:
    def broken(data: bytes) -> None:
        raise IndexError(len(data))

    with pytest.raises(AssertionError, match="broken: IndexError"):
        survive(Target("broken", broken, [b"a"]), b"\1\2")
