"""`python -m benchmarks.catalog_growth`: what a site's catalog answers, and how fast the site starts, when it is large.

A real site delivers one artifact; its catalog is then filled with copies of it. Questions go to the served site over mutual TLS,
and to the catalog itself as a commit asks them. The page cache of the system is warm: the file was just written.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.session import open_session
from agent.settings import load_settings
from benchmarks.catalog_fill import Growth, fill
from benchmarks.catalog_questions import Questions
from benchmarks.data import incompressible_file
from benchmarks.goals import Goal, goals_table
from benchmarks.machine import describe_machine
from benchmarks.network import Network
from benchmarks.processes import Failed, Server
from benchmarks.site import BIN, make_site, set_keys
from benchmarks.timing import Timed
from carnet.identifiers import TransferId
from gateway.catalog.engine import SqliteCatalog
from gateway.clock import SystemClock
from gateway.offline import row_seal
from gateway.sitedir import SitePaths

HERE = Path(__file__).resolve().parent
_ANSWER_MS_MAX = 50.0
_START_S_MAX = 3.0
_ARTIFACTS, _SEGMENTS, _ROUNDS = 100_000, 10_000_000, 300


def main() -> int:
    """Fill, ask, print; the exit status is 1 if a goal is missed."""
    arguments = _arguments()
    growth = Growth(arguments.artifacts, arguments.segments)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="carnet-growth-", dir=arguments.directory) as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        site = _Site(Path(scratch))
        transfer = site.prepare()
        started = time.monotonic()
        fill(site.paths.catalog, growth, transfer, row_seal(site.paths))
        filled_s = time.monotonic() - started
        catalog_bytes = site.paths.catalog.stat().st_size
        _tell(f"filled in {filled_s:.0f} s: {catalog_bytes / 1e9:.2f} GB")
        start_s, asked, beside = site.measure(growth, arguments.rounds)
    goals = [Goal("start, until it listens", start_s, _START_S_MAX, "s")]
    goals += [Goal(one.name, one.p99, _ANSWER_MS_MAX, "ms p99") for one in asked]
    head = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": describe_machine(),
        "load": round(load, 2),
        "artifacts": growth.artifacts,
        "segments": growth.segments,
        "catalog_bytes": catalog_bytes,
        "rounds": arguments.rounds,
    }
    _print(head, goals, [*asked, *beside])
    if arguments.write:
        path = HERE / "results" / "catalog-growth.json"
        path.write_text(json.dumps(head | _values(goals, [*asked, *beside]), indent=1) + "\n", encoding="utf-8")
        print(f"written: {path.relative_to(HERE.parent)}")
    return 0 if all(goal.is_met for goal in goals) else 1


class _Site:
    """The site whose catalog grows."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._network = Network()
        self._port = self._network.free_port()
        self._directory = scratch / "site"
        self.paths = SitePaths(self._directory)

    def prepare(self) -> TransferId:
        """Deliver one artifact, enrol one agent that may pull little, and stop; return the transfer."""
        make_site(self._directory)
        url = f"https://localhost:{self._port}"
        set_keys(self._directory / "gateway.toml", url=url, listen=[f"127.0.0.1:{self._port}"])
        set_keys(self._directory / "agent" / "carnet.toml", url=url)
        source = incompressible_file(self._scratch / "source", 1_000_000)
        with closing(_Stopping(self._serve())):
            invite = _answer([BIN / "carnet-gateway", "invite", self._directory, "narrow", "--grant", "pull:grown/app-0500@*"])
            _answer([BIN / "carnet", "enroll", invite["invite"], "--dir", self._scratch / "narrow"])
            push = [BIN / "carnet", "--config", self._config, "push", f"file:{source}", "seed:v1", "--wait", "delivered"]
            return TransferId(_answer([*push, "--progress", "none"])["transfer"]["transfer"])

    def measure(self, growth: Growth, rounds: int) -> tuple[float, list[Timed], list[Timed]]:
        """Return how long the start took, the times of what has a goal, and of what has none."""
        started = time.monotonic()
        with closing(_Stopping(self._serve())) as running:
            start_s = time.monotonic() - started
            return (start_s, *asyncio.run(self._ask(growth, rounds, running.pid)))

    async def _ask(self, growth: Growth, rounds: int, server: int) -> tuple[list[Timed], list[Timed]]:
        settings, narrow = load_settings(self._config), load_settings(self._scratch / "narrow" / "carnet.toml")
        async with open_session(settings, connections=1) as session, open_session(narrow, connections=1) as little:
            questions = Questions(growth, session.identity.id, rounds, server)
            asked = await questions.over_the_wire(session.client, little.client)
        with closing(SqliteCatalog(self.paths.catalog, clock=SystemClock(), seal=row_seal(self.paths))) as catalog:
            asked += await questions.inside(catalog)
            return asked, await questions.beside(catalog)

    @property
    def _config(self) -> Path:
        return self._directory / "agent" / "carnet.toml"

    def _serve(self) -> Server:
        command = [BIN / "carnet-gateway", "serve", self._directory]
        return Server(self._network, command, self._scratch / "gateway.log", self._port)


class _Stopping:
    """A server that ends where a file would be closed."""

    def __init__(self, server: Server) -> None:
        self.close = server.stop
        self.pid = server.pid


def _answer(command: list[str | Path]) -> dict[str, Any]:
    done = subprocess.run([*command, "--json"], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _values(goals: list[Goal], times: list[Timed]) -> dict[str, Any]:
    rows = [
        {"name": one.name, "p50_ms": round(one.p50, 2), "p99_ms": round(one.p99, 2), "cpu_ms": round(one.cpu, 2)} for one in times
    ]
    return {"goals": [goal.as_object() for goal in goals], "times": rows}


def _print(head: dict[str, Any], goals: list[Goal], times: list[Timed]) -> None:
    print(f"{head['at']}  {head['machine']}  load {head['load']}")
    print(f"{head['artifacts']} artifacts, {head['segments']} segments, catalog of {head['catalog_bytes'] / 1e9:.2f} GB\n")
    print(goals_table(goals))
    print(f"\n{'question':<44}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}")
    for one in times:
        print(f"{one.name:<44}{one.p50:>9.2f}{one.p99:>9.2f}{one.cpu:>9.2f}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.catalog_growth", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--artifacts", type=int, default=_ARTIFACTS, help=f"how many; {_ARTIFACTS}")
    parser.add_argument("--segments", type=int, default=_SEGMENTS, help=f"how many, in equal parts; {_SEGMENTS}")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"how often each question is asked; {_ROUNDS}")
    parser.add_argument("--directory", type=Path, help="where the site is for the time being, 5 GB of it; $TMPDIR")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/catalog-growth.json")
    arguments = parser.parse_args()
    if arguments.artifacts < 1 or arguments.segments < arguments.artifacts:
        parser.error("at least one artifact, and a segment for each")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
