"""Runs seeds: `python -m tests.simulation.run --seed N` prints what happened in one; `--seeds A:B` runs many.

Results are lines of JSON. A run is the same wherever it is repeated: it starts itself again with a fixed order of sets, and
randomness comes from a seed too.
"""

import argparse
import asyncio
import gc
import io
import json
import logging
import os
import random
import sys
import time
from contextlib import nullcontext
from typing import Any

_ORDER = "0"


def main() -> None:
    """Parse the command line and run."""
    if os.environ.get("PYTHONHASHSEED") != _ORDER:
        again = [sys.executable, "-m", "tests.simulation.run", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": _ORDER})  # noqa: S606 - itself
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one and print its trace")
    parser.add_argument("--seeds", default="", metavar="A:B", help="run these")
    parser.add_argument("--mutation", default="", help="run a build that is broken in this way")
    parser.add_argument("--until-violation", action="store_true", help="stop at the first seed that fails")
    given = parser.parse_args()
    gc.disable()
    sys.unraisablehook = lambda _what: None  # what dead processes leave behind
    from gateway.telemetry.logs import configure
    from tests.simulation.mutations import MUTATIONS
    from tests.simulation.prepared import prepare
    from tests.simulation.scenario import Run

    configure("error", io.StringIO())
    logging.disable(logging.CRITICAL)

    _remember_statements()
    _remember_signatures()
    world = prepare()
    gc.freeze()  # what every seed shares is not looked through after each
    with MUTATIONS[given.mutation]() if given.mutation else nullcontext():
        if given.seed is not None:
            outcome = Run(given.seed, world, printing=True).outcome()
            print(outcome.digest, outcome.violation or "sound", outcome.ended)
            sys.exit(outcome.violation is not None)
        first, _, end = given.seeds.partition(":")
        for seed in range(int(first), int(end)):
            started = time.process_time()
            outcome = Run(seed, world).outcome()
            line = {
                "seed": seed,
                "digest": outcome.digest,
                "violation": outcome.violation,
                "ended": outcome.ended,
                "pulled": outcome.pulled,
                "events": len(outcome.trace),
                "cpu_s": round(time.process_time() - started, 3),
            }
            print(json.dumps(line), flush=True)
            gc.collect()
            if outcome.violation is not None and given.until_violation:
                break


def _remember_statements() -> None:
    """Read each signed payload once: reading is pure, and the same few documents are read thousands of times."""
    from carnet.statement import Statement

    known: dict[Any, Any] = {}
    read = Statement.read_unverified.__func__  # type: ignore[attr-defined]

    def remembered(kind: Any, envelope: Any) -> Any:
        key = (kind, envelope.payload_type, envelope.payload)
        if key not in known:
            known[key] = read(kind, envelope)
            if len(known) > 2_000:
                known.pop(next(iter(known)))
        return known[key]

    Statement.read_unverified = classmethod(remembered)  # type: ignore[assignment, method-assign]


def _remember_signatures() -> None:
    """Verify each signature once: that is pure too."""
    from carnet.keys import VerifyingKey

    verify = VerifyingKey.is_signature
    known: dict[Any, bool] = {}

    def remembered(key: VerifyingKey, signature: bytes, message: bytes) -> bool:
        asked = key.raw, bytes(signature), bytes(message)
        if asked not in known:
            known[asked] = verify(key, signature, message)
            if len(known) > 10_000:
                known.pop(next(iter(known)))
        return known[asked]

    VerifyingKey.is_signature = remembered  # type: ignore[method-assign]


if __name__ == "__main__":
    os.urandom = random._urandom = random.Random(_ORDER).randbytes  # type: ignore[attr-defined]
    asyncio.set_event_loop_policy(None)
    main()
