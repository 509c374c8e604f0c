"""A command's connection to the home site: how long it tries, and what the person is told meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent.commands.terminal import get_config
from carnet.flow.commandline import Terminal

if TYPE_CHECKING:
    from agent.session import Session
    from agent.settings import AgentSettings
    from carnet.errors import CarnetError
    from carnet.flow.link import OnWait, Timeouts, Waiting

GiveUp = Annotated[str | None, typer.Option("--timeout", help="Give up on the gateway after this time, such as 5s or 1m.")]
_ASKING_S: Final = 5.0
"""A question is asked again for so long, when no time is given: whoever asks looks at the screen."""
_ANSWER_S: Final = 15.0


@asynccontextmanager
async def connected(
    terminal: Terminal,
    *,
    settings: "AgentSettings | None" = None,
    connections: int | None = 1,
    timeouts: "Timeouts | None" = None,
    on_wait: "OnWait | None" = None,
    grace: timedelta = timedelta(0),
) -> "AsyncIterator[Session]":
    """Yield a session with the home site of `settings`, or of those found; raises as `load_settings` and `open_session`.

    `grace` is how long ago the trust bundle may have expired.
    """
    from agent.session import open_session
    from agent.settings import load_settings

    found, say = settings or load_settings(get_config()), on_wait or saying(terminal)
    async with open_session(found, connections=connections, timeouts=timeouts, on_wait=say, grace=grace) as session:
        yield session


def asking(timeout: str | None) -> "Timeouts":
    """Return the deadlines of a command that only asks: those of `--timeout`, or a few seconds."""
    from agent.amounts import parse_duration
    from carnet.flow.link import Timeouts

    if timeout is not None:
        return Timeouts.within(parse_duration(timeout))
    return Timeouts(connect_s=_ASKING_S, read_s=_ANSWER_S, send_s=_ANSWER_S, retry_s=_ASKING_S)


def end_with(error: "CarnetError | None") -> None:
    """End the command with `error`, if there is one; what the command found is printed already."""
    if error is not None:
        raise error


def saying(terminal: Terminal) -> "OnWait":
    """Return what says in a line of its own that the gateway is waited for."""

    def say(waiting: "Waiting | None") -> None:
        if waiting is not None:
            terminal.note(waiting_words(waiting, until(waiting)))

    return say


def until(waiting: "Waiting") -> datetime:
    """Return when we give up waiting, by this machine's clock."""
    return datetime.now().astimezone() + timedelta(seconds=waiting.left_s)


def waiting_words(waiting: "Waiting", end: datetime) -> str:
    """Return for whom we wait, why, and for how long."""
    from carnet.presentation import printable

    return printable(f"waiting for {waiting.gateway}: {waiting.problem}; trying again until {end:%H:%M:%S}")
