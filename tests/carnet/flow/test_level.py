"""The level of compression follows the link and what is new, unless the caller fixed it."""

from dataclasses import dataclass, field

import pytest

from carnet.flow.level import LevelControl
from carnet.flow.progress import Progress
from carnet.limits import MIB


@dataclass
class Link:
    """A push over a link of so many sealed bytes a second, by a clock of its own."""

    rate: float
    fixed: int | None = None
    has_bases: bool = False
    now: float = 0.0
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.control = LevelControl(self.fixed, has_bases=self.has_bases, progress=self.progress, clock=lambda: self.now)

    def seal(self, seconds: float, *, waited: bool) -> int:
        """Hand on four segments a second for so long; return the level afterwards."""
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.progress.wire_bytes += round(self.rate / 4)
            self.control.sealed(waited=waited)
        return self.control.level


@pytest.mark.parametrize(("rate", "level"), [(200e6, 1), (60e6, 1), (40e6, 3), (10e6, 6), (2e6, 9), (100e3, 12)])
def test_where_segments_wait_for_the_link_its_rate_decides(rate: float, level: int) -> None:
    assert Link(rate).seal(20, waited=True) == level


def test_where_the_link_takes_everything_at_once_the_level_stays_at_its_base() -> None:
    assert Link(1e6).seal(20, waited=False) == 1
    assert Link(1e6, has_bases=True).seal(20, waited=False) == 3


def test_it_rises_one_step_a_second_and_not_before_a_second_of_waiting() -> None:
    link = Link(100e3)

    assert [link.seal(1, waited=True) for _ in range(6)] == [1, 3, 6, 9, 12, 12]


def test_it_falls_as_soon_as_nothing_waits() -> None:
    link = Link(100e3)
    link.seal(10, waited=True)

    assert [link.seal(0.25, waited=False) for _ in range(5)] == [9, 6, 3, 1, 1]


def test_one_segment_that_did_not_wait_begins_the_second_anew() -> None:
    link = Link(100e3)
    for _ in range(10):
        link.seal(0.75, waited=True)
        link.seal(0.25, waited=False)

    assert link.control.level == 1


@pytest.mark.parametrize("fixed", [-5, 1, 19])
def test_a_level_that_was_fixed_stays(fixed: int) -> None:
    assert Link(100e3, fixed=fixed, has_bases=True).seal(10, waited=True) == fixed


@pytest.mark.parametrize(("read", "saved", "level"), [(1, 0, 3), (32, 16, 3), (32, 8, 1), (1024, 0, 1)])
def test_a_next_version_of_which_most_is_new_is_compressed_as_a_first_one(read: int, saved: int, level: int) -> None:
    link = Link(1e9, has_bases=True)
    link.progress.read(read * MIB)
    link.progress.reference(saved * MIB)

    assert link.control.level == level
