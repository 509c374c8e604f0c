"""A short, repeatable run of the fuzz targets of policy files, and of the runner of all targets."""

import pytest

from tests.fuzz.drive import drive
from tests.fuzz.fuzz_policy import targets
from tests.fuzz.run import all_targets, main

TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_policies_are_refused_in_our_words(target):
    assert drive(target, seed=7, runs=30) == 30


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_seeds_are_accepted(target):
    for seed in target.seeds:
        target.run(seed)


def test_the_runner_finds_every_target_once(capsys):
    names = [target.name for target in all_targets()]

    assert len(names) == len(set(names))
    assert main(["--seconds", "0.2", "--seed", "1", "--only", "policy-yaml"]) == 0
    assert "policy-yaml" in capsys.readouterr().out
