"""`python -m benchmarks.crowd`: many pushes at once to one gateway: all end, none starves, memory and /healthz stay bounded.

Each client process has an identity of its own, as build servers have, and runs its pushes at once, each with the session that
`carnet push` would open. Every push is of other content, half of it compressible, to a repository of its own. All of it is on
this machine: the clients and the gateway share its cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.data import half_compressible_file
from benchmarks.goals import Goal, goals_table, percentile
from benchmarks.health import HealthPoll
from benchmarks.machine import describe_machine
from benchmarks.network import Network
from benchmarks.processes import Failed, Server, cpu_s, peak_bytes, waited_s
from benchmarks.site import BIN, make_site, set_keys
from gateway.sitedir import SitePaths

HERE = Path(__file__).resolve().parent
_SLOWEST_BY_MEDIAN_MAX = 3.0
_MEMORY_MB_MAX = 400.0
_HEALTH_MS_MAX = 250.0


def main() -> int:
    """Run the crowd once; the exit status is 1 if a goal is missed."""
    arguments = _arguments()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="carnet-crowd-", dir=arguments.directory) as scratch, ExitStack() as stack:
        os.environ["XDG_CACHE_HOME"] = scratch
        crowd = _Crowd(Path(scratch), arguments, stack)
        figures = crowd.run()
    goals = _goals(figures)
    head = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": describe_machine(),
        "load": round(load, 2),
        "processes": arguments.processes,
        "pushes": arguments.pushes,
        "bytes": arguments.bytes,
        "connections": arguments.connections,
        "identities": arguments.identities,
    }
    _print(head, figures, goals)
    if arguments.write:
        path = HERE / "results" / "crowd.json"
        path.write_text(json.dumps(head | {"goals": [goal.as_object() for goal in goals]} | figures, indent=1) + "\n", "utf-8")
        print(f"written: {path.relative_to(HERE.parent)}")
    return 0 if all(goal.is_met for goal in goals) else 1


class _Crowd:
    """One run: a site, its agents, the files, the client processes."""

    def __init__(self, scratch: Path, arguments: argparse.Namespace, stack: ExitStack) -> None:
        self._scratch = scratch
        self._arguments = arguments
        self._stack = stack
        self._site = scratch / "site"
        self._network = Network()
        self._port = self._network.free_port()

    def run(self) -> dict[str, Any]:
        """Return the figures."""
        server = self._serve()
        configs = [self._enrol(f"builder-{number}") for number in range(self._arguments.identities)]
        clients = [
            self._stack.enter_context(_client(configs[number % len(configs)], f"crowd/{number}", self._connections, files))
            for number, files in enumerate(self._files())
        ]
        os.sync()
        health = HealthPoll("localhost", self._port, SitePaths(self._site).authority_certificate)
        used, waited = cpu_s(server.pid), waited_s(server.pid)
        with health:
            started = time.monotonic()
            outcomes = [outcome for client in _started(clients) for outcome in _outcomes(client)]
            wall_s = time.monotonic() - started
        return _figures(outcomes, health, wall_s) | {
            "gateway_peak_mb": peak_bytes(server.pid) / 1e6,
            "gateway_cpu_s": cpu_s(server.pid) - used,
            "gateway_waited_s": waited_s(server.pid) - waited,
        }

    @property
    def _connections(self) -> int:
        return int(self._arguments.connections)

    def _serve(self) -> Server:
        make_site(self._site)
        url = f"https://localhost:{self._port}"
        set_keys(self._site / "gateway.toml", url=url, listen=[f"127.0.0.1:{self._port}"], log_level="info")
        set_keys(self._site / "agent" / "carnet.toml", url=url)
        log = self._arguments.log or self._scratch / "gateway.log"
        server = Server(self._network, [BIN / "carnet-gateway", "serve", self._site], log, self._port)
        self._stack.callback(server.stop)
        return server

    def _enrol(self, name: str) -> Path:
        """Return the settings of a new agent."""
        directory = self._scratch / name
        invite = _output([BIN / "carnet-gateway", "invite", self._site, name, "--json"])["invite"]
        _output([BIN / "carnet", "enroll", invite, "--dir", directory, "--json"])
        return directory / "carnet.toml"

    def _files(self) -> Iterator[list[Path]]:
        """Yield the files of each process."""
        for process in range(self._arguments.processes):
            numbers = range(process * self._arguments.pushes, (process + 1) * self._arguments.pushes)
            yield [half_compressible_file(self._scratch / f"{one}.bin", self._arguments.bytes, seed=one) for one in numbers]


@contextmanager
def _client(config: Path, prefix: str, connections: int, files: list[Path]) -> Iterator["subprocess.Popen[str]"]:
    """Start a client process and wait until it is ready; it is gone with the context."""
    command = [sys.executable, "-m", "benchmarks.crowd_client", config, prefix, str(connections), *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise Failed("a client did not start")
            yield process
        finally:
            process.kill()


def _started(clients: "list[subprocess.Popen[str]]") -> "list[subprocess.Popen[str]]":
    """Let all begin at once."""
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    return clients


def _outcomes(client: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    """Return what became of the pushes of one process, once all have ended."""
    out, _ = client.communicate()
    if client.returncode != 0:
        raise Failed(f"a client ended with {client.returncode}")
    found: list[dict[str, Any]] = json.loads(out)
    return found


def _output(command: list[str | Path]) -> dict[str, Any]:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _figures(outcomes: list[dict[str, Any]], health: HealthPoll, wall_s: float) -> dict[str, Any]:
    received = sorted(one["received_s"] for one in outcomes if one["received_s"] is not None)
    delivered = sorted(one["delivered_s"] for one in outcomes if one["delivered_s"] is not None)
    return {
        "wall_s": wall_s,
        "received_s": received,
        "delivered_s": delivered,
        "failures": dict(Counter(one["error"] for one in outcomes if one["error"] is not None)),
        "problems": sorted({str(one["problem"])[:200] for one in outcomes if one["error"] is not None})[:5],
        "waits": dict(sum((Counter(one["waits"]) for one in outcomes), Counter())),
        "health_ms": {
            "max": max(health.seconds) * 1e3,
            "p99": percentile(health.seconds, 99) * 1e3,
            "p50": percentile(health.seconds, 50) * 1e3,
            "asked": len(health.seconds),
            "failed": len(health.failures),
        },
    }


def _goals(figures: dict[str, Any]) -> list[Goal]:
    failed = sum(figures["failures"].values())
    goals = [Goal("pushes that did not end in `delivered`", failed, 0, "")]
    for name in ("received", "delivered"):
        times = figures[f"{name}_s"]
        if times:
            goals.append(
                Goal(f"slowest / median until `{name}`", times[-1] / statistics.median(times), _SLOWEST_BY_MEDIAN_MAX, "x")
            )
    health = figures["health_ms"]
    return [
        *goals,
        Goal("peak memory of the gateway", figures["gateway_peak_mb"], _MEMORY_MB_MAX, "MB"),
        Goal("/healthz, slowest answer", health["max"], _HEALTH_MS_MAX, "ms"),
        Goal("/healthz, questions that failed", health["failed"], 0, ""),
    ]


def _print(head: dict[str, Any], figures: dict[str, Any], goals: list[Goal]) -> None:
    print(f"{head['at']}  {head['machine']}  load {head['load']}")
    crowd = f"{head['processes']} processes of {head['pushes']} pushes of {head['bytes'] / 1e6:g} MB"
    print(f"{crowd}, {head['identities']} identities\n")
    print(goals_table(goals))
    for name in ("received", "delivered"):
        if times := figures[f"{name}_s"]:
            print(f"{name}: first {times[0]:.1f} s, median {statistics.median(times):.1f} s, last {times[-1]:.1f} s")
    health = figures["health_ms"]
    print(f"/healthz: p50 {health['p50']:.1f} ms, p99 {health['p99']:.1f} ms, {health['asked']} asked")
    print(f"all together {figures['wall_s']:.1f} s; the gateway took {figures['gateway_cpu_s']:.1f} s of processor time,")
    print(f"and its event loop was ready for {figures['gateway_waited_s']:.1f} s while others had the processors")
    for kind in ("failures", "waits"):
        for what, count in sorted(figures[kind].items()):
            print(f"{kind}: {count} x {what}")
    for problem in figures["problems"]:
        print(f"problem: {problem}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.crowd", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=4, help="client processes; 4")
    parser.add_argument("--pushes", type=int, default=50, help="pushes at once of each; 50")
    parser.add_argument("--bytes", type=int, default=10_000_000, help="size of each artifact; 10 MB")
    parser.add_argument("--connections", type=int, default=4, help="connections of each push; 4, as of `carnet push`")
    parser.add_argument("--identities", type=int, help="agents that the processes share; one each by default")
    parser.add_argument("--directory", type=Path, help="where the site and the data are for the time being; $TMPDIR")
    parser.add_argument("--log", type=Path, help="where the gateway's log is kept")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/crowd.json")
    arguments = parser.parse_args()
    arguments.identities = arguments.identities or arguments.processes
    return arguments


if __name__ == "__main__":
    sys.exit(main())
