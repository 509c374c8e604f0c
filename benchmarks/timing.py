"""One question asked many times: how long its answers took."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.goals import percentile
from benchmarks.processes import cpu_s


@dataclass(frozen=True)
class Timed:
    """The times of one question's answers, in milliseconds, and the processor time of one on average, at both ends."""

    name: str
    milliseconds: tuple[float, ...]
    cpu: float

    @property
    def p50(self) -> float:
        """The median."""
        return percentile(self.milliseconds, 50)

    @property
    def p99(self) -> float:
        """What all but one in a hundred do not exceed."""
        return percentile(self.milliseconds, 99)


async def timed(name: str, ask: Callable[[int], Awaitable[object]], rounds: int, server: int) -> Timed:
    """Ask `rounds` times, once before that unmeasured; `ask` is given the number of the round, to ask about another thing.

    `server` is the process at the other end.
    """
    await ask(rounds)
    taken, used = [], time.process_time() + cpu_s(server)
    for number in range(rounds):
        started = time.perf_counter()
        await ask(number)
        taken.append((time.perf_counter() - started) * 1e3)
    used = time.process_time() + cpu_s(server) - used
    return Timed(name, tuple(taken), used / rounds * 1e3)
