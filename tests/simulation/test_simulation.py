"""Three sites in virtual time, through everything that goes wrong: what must hold, holds; and a broken build is noticed.

Each run is a process of its own, so that it is the same wherever it is repeated: `python -m tests.simulation.run --seed N`.
"""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS

ROOT = Path(__file__).parents[2]
SAMPLE, WHOLE = 200, 5_000
BREACHES = {
    "no-file-sync": {"I1"},
    "no-directory-sync": {"I1"},
    "no-log-sync": {"site", "I3", "I4", "P1"},
    "acknowledged-before-commit": {"I1", "termination"},
    "no-offer-check": {"P1"},
    "no-id-check": {"I1", "P3"},
    "no-checkpoint-wait": {"P1", "defect"},
}
"""Of each broken build, the invariants that it can break."""
MUTANTS = {"no-file-sync", "no-id-check", "no-log-sync"}
"""Those of the sample: skipped syncs and a skipped check."""
MUTANT_SEEDS = 30


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a run."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation.run", *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def results(*runs: subprocess.Popen[str]) -> list[dict]:
    """Return the lines of results of runs, once they have ended; all are read at once, for one that is not read waits."""
    with ThreadPoolExecutor(len(runs)) as readers:
        try:
            outputs = [output for output, _ in readers.map(subprocess.Popen.communicate, runs)]
        except BaseException:  # the test is out of time, and the threads end only when the runs do
            for run in runs:
                run.kill()
            raise
    assert all(run.returncode == 0 for run in runs)
    return [json.loads(line) for output in outputs for line in output.splitlines()]


def require_sound(first: int, end: int) -> None:
    """Run seeds in as many processes as there are processors; tell the first that breaks something."""
    processes = max(1, os.cpu_count() or 1)
    edges = [first + (end - first) * number // processes for number in range(processes + 1)]
    found = results(*[start("--seeds", f"{low}:{high}") for low, high in itertools.pairwise(edges)])

    assert len(found) == end - first
    broken = [f"python -m tests.simulation.run --seed {one['seed']}: {one['violation']}" for one in found if one["violation"]]
    assert not broken, "\n".join(broken)
    assert sum("delivered" in str(one["ended"]) for one in found) > len(found) // 2, "the storm lets hardly anything through"
    assert sum(one["pulled"] for one in found) > len(found) // 2, "hardly anything can be pulled"


@pytest.mark.timeout(900)
def test_three_sites_keep_every_promise_through_two_hundred_storms():
    """I1 to I9 and the promises hold at every recovery and at the end; everything ends."""
    require_sound(0, SAMPLE)


@pytest.mark.full
@pytest.mark.timeout(14_400)
def test_three_sites_keep_every_promise_through_five_thousand_storms():
    """The same, over as many as a night has room for."""
    require_sound(SAMPLE, WHOLE)


def test_a_seed_repeats_exactly():
    """Two processes that run the same seed have the same trace, event by event."""
    first, second = start("--seeds", "5:7"), start("--seeds", "5:7")
    once, again = results(first), results(second)

    assert [one["digest"] for one in once] == [one["digest"] for one in again]
    assert len({one["digest"] for one in once}) == len(once)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "mutation", [one if one in MUTANTS else pytest.param(one, marks=pytest.mark.full) for one in sorted(BREACHES)]
)
def test_a_broken_build_is_noticed(mutation):
    """Some seed finds the invariant that the missing line kept; the intact build passes the same seeds above."""
    assert mutation in MUTATIONS

    found = results(start("--seeds", f"0:{MUTANT_SEEDS}", "--mutation", mutation, "--until-violation"))

    broken = found[-1]["violation"]
    assert broken is not None, f"{MUTANT_SEEDS} seeds did not notice {mutation}"
    assert broken.split(":")[0] in BREACHES[mutation], broken
