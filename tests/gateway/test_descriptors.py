"""Open files: the share is raised to what connections need, and where it cannot be, fewer connections are taken."""

import resource

import pytest

from gateway.descriptors import CONNECTIONS_MIN, FILES, connections_that_fit

NONE = resource.RLIM_INFINITY


class System:
    """What the system allows."""

    def __init__(self, soft: int, hard: int, *, is_forbidden: bool = False) -> None:
        self.limits = (soft, hard)
        self._is_forbidden = is_forbidden

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if self._is_forbidden:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.fixture
def system(monkeypatch):
    def make(*limits: int, is_forbidden: bool = False) -> System:
        found = System(*limits, is_forbidden=is_forbidden)
        monkeypatch.setattr(resource, "getrlimit", found.getrlimit)
        monkeypatch.setattr(resource, "setrlimit", found.setrlimit)
        return found

    return make


@pytest.mark.parametrize(("soft", "hard"), [(1_024, 65_536), (1_024, NONE), (100_000, 100_000), (NONE, NONE)])
def test_all_connections_fit_where_the_system_allows_it(system, soft, hard):
    found = system(soft, hard)

    assert connections_that_fit(10_000, 256) == 10_000
    assert found.limits[0] == NONE or found.limits[0] >= 10_000 + 256 + FILES
    assert found.limits[1] == hard


def test_fewer_connections_are_taken_where_the_system_allows_fewer_files(system):
    found = system(1_024, 1_024)

    assert connections_that_fit(1_024, 256) == 1_024 - 256 - FILES
    assert found.limits == (1_024, 1_024)


def test_the_share_stays_where_a_sandbox_forbids_to_raise_it(system):
    system(1_024, 65_536, is_forbidden=True)

    assert connections_that_fit(1_024, 256) == 1_024 - 256 - FILES


def test_a_few_connections_are_taken_in_any_case(system):
    system(256, 256)

    assert connections_that_fit(1_024, 256) == CONNECTIONS_MIN
