"""One client process of the crowd: many pushes at once, each as `carnet push` does it, with a session of its own.

`python -m benchmarks.crowd_client CONFIG PREFIX CONNECTIONS FILE...` writes `ready`, waits for a line on standard input, pushes
every file to a repository of its own, and writes what became of each as one line of JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.push import PushOrder, Wait, is_settled, push
from agent.session import open_session
from agent.settings import AgentSettings, load_settings
from agent.sources import open_source
from carnet.errors import CapacityError, CarnetError, Unavailable
from carnet.flow.event_loop import new_event_loop
from carnet.flow.link import Waiting
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, Tag
from carnet.trust import HOME_LANE

_DELIVERY_S = 900.0


@dataclass
class Outcome:
    """What became of one push: seconds from the start of all until `received` and until `delivered`, or why not."""

    name: str
    received_s: float | None = None
    delivered_s: float | None = None
    error: str | None = None
    problem: str | None = None
    waits: dict[str, int] = field(default_factory=dict)
    """For what reasons it was told to wait."""


def main() -> None:
    """Push everything that was named."""
    config, prefix, connections, *files = sys.argv[1:]
    settings = load_settings(Path(config))
    print("ready", flush=True)
    sys.stdin.readline()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        outcomes = runner.run(_push_all(settings, prefix, int(connections), files))
    print(json.dumps([asdict(outcome) for outcome in outcomes]), flush=True)


async def _push_all(settings: AgentSettings, prefix: str, connections: int, files: list[str]) -> list[Outcome]:
    started = time.monotonic()
    return await asyncio.gather(
        *(_push(settings, f"{prefix}/{number}", connections, file, started) for number, file in enumerate(files))
    )


async def _push(settings: AgentSettings, repository: str, connections: int, file: str, started: float) -> Outcome:
    outcome, waits = Outcome(repository), Counter[str]()

    def hear(waiting: Waiting | None) -> None:
        if waiting is not None:
            waits[waiting.problem] += 1

    try:
        async with open_session(settings, connections=connections, on_wait=hear) as session:
            order = PushOrder(
                lane=HOME_LANE,
                destinations=(session.site,),
                repository=Repository(repository),
                tag=Tag("v1"),
                wait=Wait.RECEIVED,
            )
            result = await push(session, open_source(f"file:{file}"), order, Progress())
            outcome.received_s = time.monotonic() - started
            view = await session.client.wait(result.view.transfer, lambda found: is_settled(found, Wait.DELIVERED), _DELIVERY_S)
            if view.deliveries[0].state == "delivered":
                outcome.delivered_s = time.monotonic() - started
            else:
                outcome.error, outcome.problem = view.deliveries[0].state, str(view.reasons)
    except CarnetError as error:
        limit = error.limit if isinstance(error, CapacityError | Unavailable) else None
        outcome.error, outcome.problem = error.code if limit is None else f"{error.code} {limit}", error.problem
    outcome.waits = dict(waits)
    return outcome


if __name__ == "__main__":
    main()
