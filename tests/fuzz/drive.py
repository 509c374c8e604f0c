"""Drives fuzz targets: mutates seeds at random and reports the first input that a target does not survive.

A target is a function of bytes that returns, or raises a family of `CarnetError`; anything else is a finding. Runs are
repeatable: the same seed number makes the same inputs.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from carnet.errors import CarnetError, InternalError

INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x7f\xff\xff\xff")


@dataclass(frozen=True)
class Target:
    """What is fuzzed: a name, the function, and inputs that are nearly right."""

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]


def mutations(seeds: Sequence[bytes], source: random.Random) -> Iterator[bytes]:
    """Yield changed seeds without end."""
    while True:
        data = bytearray(source.choice(seeds))
        for _ in range(source.choice((1, 1, 1, 2, 4, 16))):
            _mutate(data, source)
        yield bytes(data)


def _mutate(data: bytearray, source: random.Random) -> None:
    at = source.randrange(len(data) + 1)
    match source.randrange(6):
        case 0 if data:
            data[at % len(data)] ^= 1 << source.randrange(8)
        case 1:
            piece = source.choice(INTERESTING)
            data[at : at + len(piece)] = piece
        case 2:
            del data[at : at + source.choice((1, 2, 4, 64))]
        case 3:
            data[at:at] = source.randbytes(source.choice((1, 2, 4, 64)))
        case 4:
            data[at:at] = data[at : at + source.choice((1, 4, 33, 64))]
        case _:
            del data[at:]


def drive(target: Target, *, seed: int, runs: int | None = None, seconds: float | None = None) -> int:
    """Run `target` on mutated seeds for that many runs or seconds; return how many.

    Raises `AssertionError` at the first finding, with its input.
    """
    stop_at = None if seconds is None else time.monotonic() + seconds
    done = 0
    for data in mutations(target.seeds, random.Random(seed)):
        if done == runs or (stop_at is not None and time.monotonic() > stop_at):
            break
        survive(target, data)
        done += 1
    return done


def survive(target: Target, data: bytes) -> None:
    """Run `target` once; raise `AssertionError` with the input unless it returns or refuses in our words."""
    try:
        target.run(data)
    except InternalError as error:
        raise AssertionError(f"{target.name}: {error} on {data.hex()}") from error
    except CarnetError:
        return
    except Exception as error:
        raise AssertionError(f"{target.name}: {error!r} on {data.hex()}") from error
