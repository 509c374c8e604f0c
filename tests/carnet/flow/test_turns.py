"""As many threads compute at once as there are processors, and at least two, however many want to."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from carnet.flow.turns import turn, turn_given_back

TURNS = max(2, len(os.sched_getaffinity(0)))


class Meeting:
    """Threads that are in at once, and the most that ever were."""

    def __init__(self) -> None:
        """Nobody is in."""
        self._lock = threading.Lock()
        self._inside = self.most = 0
        self.full = threading.Event()

    def come(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            if self._inside >= TURNS:
                self.full.set()

    def go(self) -> None:
        with self._lock:
            self._inside -= 1


def test_no_more_threads_have_a_turn_than_there_are_turns_and_all_get_one() -> None:
    meeting = Meeting()

    def compute() -> None:
        with turn():
            meeting.come()
            assert meeting.full.wait(60)
            meeting.go()

    with ThreadPoolExecutor(5 * TURNS) as threads:
        for one in [threads.submit(compute) for _ in range(5 * TURNS)]:
            one.result()

    assert meeting.most == TURNS


def test_a_turn_given_back_is_another_ones_until_it_is_taken_again() -> None:
    met = threading.Event()

    def wait() -> None:
        with turn(), turn_given_back():
            assert met.wait(60)

    with ThreadPoolExecutor(2 * TURNS + 1) as threads:
        waiting = [threads.submit(wait) for _ in range(2 * TURNS)]
        with turn():
            met.set()
        for one in waiting:
            one.result()


def test_a_failure_costs_no_turn() -> None:
    for _ in range(3 * TURNS):
        with pytest.raises(OSError), turn(), turn_given_back():
            raise OSError
    with ThreadPoolExecutor(TURNS) as threads:
        together = threading.Barrier(TURNS, timeout=60)

        def compute() -> None:
            with turn():
                together.wait()

        for one in [threads.submit(compute) for _ in range(TURNS)]:
            one.result()
