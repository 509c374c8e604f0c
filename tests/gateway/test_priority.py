"""A gateway goes before others of its machine where it may, unless whoever started it said otherwise."""

import os
import subprocess
import sys

import pytest

from gateway.priority import NICENESS, go_first

_TELL = "import os; from gateway.priority import go_first; print(go_first(), os.getpriority(os.PRIO_PROCESS, 0))"


def test_it_goes_first_where_it_may_and_as_it_was_where_not() -> None:
    told = subprocess.run([sys.executable, "-c", _TELL], check=True, capture_output=True, text=True).stdout.split()

    assert told in (["True", str(NICENESS)], ["False", str(os.getpriority(os.PRIO_PROCESS, 0))])


def test_a_niceness_that_was_chosen_stays() -> None:
    chosen = os.getpriority(os.PRIO_PROCESS, 0) + 3
    command = ["nice", "-n", "3", sys.executable, "-c", _TELL]

    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == ["False", str(chosen)]


def test_what_the_system_refuses_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "getpriority", lambda *_: 0)
    monkeypatch.setattr(os, "setpriority", refuse)

    assert not go_first()
