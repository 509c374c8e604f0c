"""Runs every fuzz target in `tests/fuzz/fuzz_*.py` in turn until the time is over: `python -m tests.fuzz.run --seconds 60`.

Prints how many inputs each target had, and every finding with its input; the exit status is 1 if there was one. The seed is
printed, and `--seed` repeats a run.
"""

import argparse
import importlib
import secrets
import sys
import time
from pathlib import Path

from tests.fuzz.drive import Target, drive

_SLICE_S = 1.0


def all_targets() -> list[Target]:
    """Return the targets of all files, by file name; a file without `targets()` is an error of that file."""
    found: list[Target] = []
    for path in sorted(Path(__file__).parent.glob("fuzz_*.py")):
        found += importlib.import_module(f"tests.fuzz.{path.stem}").targets()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", help="run the targets whose names contain this")
    given = parser.parse_args(arguments)
    seed = secrets.randbits(32) if given.seed is None else given.seed
    targets = [target for target in all_targets() if given.only in target.name]
    print(f"seed {seed}, {len(targets)} targets, {given.seconds:g} s")
    counts, findings = _run(targets, seed, given.seconds)
    for target in targets:
        finding = f"  FINDING: {findings[target.name]}" if target.name in findings else ""
        print(f"{counts.get(target.name, 0):>9}  {target.name}{finding}")
    return 1 if findings else 0


def _run(targets: list[Target], seed: int, seconds: float) -> tuple[dict[str, int], dict[str, str]]:
    """Give the targets turns until the time is over; one with a finding rests."""
    counts: dict[str, int] = {}
    findings: dict[str, str] = {}
    ends = time.monotonic() + seconds
    turn = 0
    while targets and time.monotonic() < ends and len(findings) < len(targets):
        target = targets[turn % len(targets)]
        if target.name not in findings:
            try:
                done = drive(target, seed=seed + turn, seconds=min(_SLICE_S, seconds / len(targets)))
            except AssertionError as finding:
                findings[target.name] = str(finding)
            else:
                counts[target.name] = counts.get(target.name, 0) + done
        turn += 1
    return counts, findings


if __name__ == "__main__":
    sys.exit(main())
