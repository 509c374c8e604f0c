"""`python -m benchmarks.decisions`: how many decisions a second one core makes, for each pack, over all of its cases.

What is timed is what a site does for each decision: evaluate every rule at the gate, and put the reasons into the words that the
signed document has. The cases of a pack are asked in turn, so allowed, held and denied ones are all in it.
"""

import argparse
import os
import statistics
import sys
import time

from benchmarks.goals import Goal, goals_table
from benchmarks.machine import describe_machine
from carnet.policy import evaluate
from carnet.policy.explanation import reasons
from gateway.packs import TestedPolicy, pack_names, read_tested

_A_SECOND_MIN = 10_000


def main() -> int:
    """Print decisions a second; the exit status is 1 if the largest pack makes fewer than the goal."""
    parser = argparse.ArgumentParser(prog="benchmarks.decisions", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median is shown; 5")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round; 1")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{describe_machine()}; one core, median of {arguments.rounds} rounds\n")
    packs = sorted((read_tested(name) for name in pack_names()), key=lambda pack: len(pack.policy.files[0].rules))
    print(f"{'pack':18}{'rules':>6}{'cases':>6}{'evaluated a second':>20}{'with reasons':>14}")
    for pack in packs:
        bare, whole = (
            statistics.median(_rate(pack, arguments.seconds, with_reasons=each) for _ in range(arguments.rounds))
            for each in (False, True)
        )
        print(f"{pack.name:18}{len(pack.policy.files[0].rules):6}{len(pack.questions):6}{bare:20,.0f}{whole:14,.0f}")
    goal = Goal(f"{packs[-1].name}: microseconds for a decision", 1e6 / bare, 1e6 / _A_SECOND_MIN, "us")
    print("\n" + goals_table([goal]))
    return 0 if goal.is_met else 1


def _rate(pack: TestedPolicy, seconds: float, *, with_reasons: bool) -> float:
    asked = [(question.case.at, question.facts, question.on) for question in pack.questions]
    policy, count = pack.policy, 0
    started = time.process_time()
    while (passed := time.process_time() - started) < seconds:
        for gate, facts, on in asked:
            decision = evaluate(policy, gate, facts, on)
            if with_reasons:
                reasons(decision)
        count += len(asked)
    return count / passed


if __name__ == "__main__":
    sys.exit(main())
