"""`make bench`: ours beside the rivals in the same run, alternating; `--quick` gives the shape in about two minutes.

Prints one table; writes results/latest.json and results/latest.svg, or, of a quick or partial run, the same into data/. The
rivals are Debian packages; what is missing is named, and its rows are left out.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.chart import chart
from benchmarks.data import mixed_file
from benchmarks.machine import describe_machine
from benchmarks.micro import measure_parts
from benchmarks.network import FarNetwork, Network, open_network, remove_leftovers
from benchmarks.operations import FAR, FULL, OPERATIONS, QUICK, TOOLS, Bench, Operation, Sizes
from benchmarks.ours import Carnet
from benchmarks.pki import make_pki
from benchmarks.processes import Failed
from benchmarks.results_file import Rows, write_results
from benchmarks.table import table
from benchmarks.tool import Tool, missing_packages, version
from benchmarks.tree import Versions

HERE = Path(__file__).resolve().parent
TITLES = {operation.name: operation.title for operation in OPERATIONS}
_SCRATCH = "scratch-"
_READ_BYTES = 8 << 20
_LOAD_MAX = 0.5


def main() -> int:
    """Measure what was asked for; the exit status is 1 if a tool failed."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    data = HERE / "data"
    data.mkdir(exist_ok=True)
    remove_leftovers()
    _remove_scratch(data)
    tools = _tools_here()
    with ExitStack() as stack:
        network = stack.enter_context(_network(arguments))
        scratch = data / f"{_SCRATCH}{os.getpid()}"
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        scratch.mkdir()
        bench = Bench(data, scratch, network, make_pki(scratch / "pki", network.address))
        head = _head(arguments.runs, network.says, tools)
        print(f"{head['at']}  {head['machine']}\nnetwork: {network.says}\n", flush=True)
        if head["load"] > _LOAD_MAX:
            _tell(f"WARNING: other work runs on this machine (load {head['load']:.1f}): the times below say little")
        return _Session(bench, arguments, head, tools).run()


class _Session:
    """One call of the command: its operations, rows and failures."""

    def __init__(self, bench: Bench, arguments: argparse.Namespace, head: dict[str, Any], tools: dict[str, type[Tool]]) -> None:
        self._bench = bench
        self._runs: int = arguments.runs
        is_far = arguments.network == "far"
        self._sizes: Sizes = QUICK if arguments.quick else FAR if is_far else FULL
        self._wanted: set[str] = arguments.only
        self._head = head
        self._tools = tools
        self._rows = Rows()
        self._failures: list[str] = []
        self._is_whole = not arguments.quick and not is_far and self._wanted >= _everything()
        self._name = "latest" if self._is_whole else "far" if is_far else "quick" if self._wanted >= _everything() else "partial"

    def run(self) -> int:
        """Measure, print, write."""
        operations = [operation for operation in OPERATIONS if operation.name in self._wanted]
        kinds = {operation.material for operation in operations} | ({"tree"} if "micro" in self._wanted else set())
        _tell("making data: minutes at the first time, then it is kept")
        materials = self._bench.materials(self._sizes, kinds)
        self._head["sizes"] = {kind: material.facts for kind, material in materials.items()}
        if "micro" in self._wanted:  # first: a part that fails shall not cost all that was measured before it
            self._head["micro"] = measure_parts(materials["tree"].first)
        for operation in operations:
            self._compare(operation, materials[operation.material])
        if "growth" in self._wanted:
            self._grow()
        self._report([operation.name for operation in operations])
        return 1 if self._failures else 0

    def _compare(self, operation: Operation, material: Versions) -> None:
        """Let the tools take turns; who is first changes from round to round."""
        _read_all(material)
        tools = [tool for tool in operation.tools if tool.name in self._tools]
        for number in range(self._runs):
            for tool in tools[number % len(tools) :] + tools[: number % len(tools)]:
                self._attempt(operation.name, tool, lambda tool=tool: self._bench.run(operation, tool, material), number)

    def _grow(self) -> None:
        """Push larger and larger files with ours alone: time is linear, memory is not to grow."""
        for size in self._sizes.growth:
            source = mixed_file(self._bench.data / f"mixed-{size >> 20}.bin", size)
            name = f"growth-{size >> 20}-mib"

            def steps(source: Path = source) -> dict[str, float]:
                return self._bench.in_place(Carnet, lambda running, place: self._bench.push(running, place, source, "v1"))

            self._attempt(name, Carnet, steps, 0)

    def _attempt(self, operation: str, tool: type[Tool], call: Any, number: int) -> None:
        """Take one run; a tool that fails is told of and does not stop the others."""
        try:
            values = call()
        except (Failed, OSError, subprocess.CalledProcessError) as failure:
            self._failures.append(f"{operation} {tool.name}: {failure}")
            _tell(f"FAILED {self._failures[-1]}")
            return
        self._rows.add(operation, tool.name, values)
        _tell(f"{operation} {tool.name} run {number + 1}: {values['wall_s']:.2f} s")

    def _report(self, names: list[str]) -> None:
        """Print the table and the parts, write the files."""
        groups = [rows for name in names if (rows := self._rows.of(name))]
        growth = [rows for size in self._sizes.growth if (rows := self._rows.of(f"growth-{size >> 20}-mib"))]
        titles = TITLES | {rows[0].operation: "half machine files, half noise; ours alone" for rows in growth}
        print(table(titles, groups + growth))
        for part in self._head.get("micro", []):
            print(f"{part['name']:<32}{statistics.median(part['rates']):>10.0f} {part['unit']}")
        for failure in self._failures:
            print(f"FAILED {failure}")
        directory = HERE / "results" if self._is_whole else self._bench.data
        write_results(directory / f"{self._name}.json", self._head, self._rows)
        if groups:
            captions = (f"{self._head['at'][:10]}, {self._runs} runs, {self._head['network']['short']}", self._head["machine"])
            (directory / f"{self._name}.svg").write_text(chart(TITLES, groups, captions), encoding="utf-8")
        print(f"written: {(directory / self._name).relative_to(HERE.parent)}.json and .svg")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small data, one run")
    parser.add_argument("--runs", type=int, help="rounds of each comparison; 5, of a quick run 1")
    parser.add_argument("--only", help="comma-separated: operations, growth, micro")
    parser.add_argument("--network", choices=("veth", "loopback", "far"), help="veth where this user may make namespaces")
    parser.add_argument("--round-trip-ms", type=float, default=200.0, help="of the far network; 200")
    parser.add_argument("--mbit", type=float, default=1000.0, help="a second that the far network carries; 1000")
    parser.add_argument("--loss-percent", type=float, default=0.0, help="of packets in the far network; none")
    arguments = parser.parse_args()
    arguments.runs = arguments.runs or (1 if arguments.quick else 5)
    arguments.only = set(arguments.only.split(",")) if arguments.only else _everything()
    if unknown := arguments.only - _everything():
        parser.error(f"there is no {', '.join(sorted(unknown))}: {', '.join(sorted(_everything()))}")
    return arguments


def _network(arguments: argparse.Namespace) -> Network:
    if arguments.network != "far":
        return open_network(arguments.network)
    return FarNetwork(round_trip_ms=arguments.round_trip_ms, mbit=arguments.mbit, loss_percent=arguments.loss_percent)


def _everything() -> set[str]:
    return {operation.name for operation in OPERATIONS} | {"growth", "micro"}


def _tools_here() -> dict[str, type[Tool]]:
    """Return the tools whose programs are here; say loudly which are not, and how to get them."""
    packages = sorted({package for tool in TOOLS.values() for package in tool.programs.values()})
    print(f"rivals are Debian packages: apt-get install --no-install-recommends {' '.join(packages)}")
    print("(none needs to run as a service: the benchmark starts its own servers)")
    for name, tool in TOOLS.items():
        if missing := missing_packages(tool):
            print(f"MISSING {', '.join(missing)}: the rows of {name} are SKIPPED")
    return {name: tool for name, tool in TOOLS.items() if not missing_packages(tool)}


def _head(runs: int, network: str, tools: dict[str, type[Tool]]) -> dict[str, Any]:
    """Return what the results begin with: when, where, what."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": describe_machine(),
        "network": {"short": network.partition(";")[0], "says": network},
        "runs": runs,
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: version(tool) for name, tool in tools.items()},
        "sizes": {},
    }


def _read_all(material: Versions) -> None:
    """Bring the data into memory, so that no tool pays for the disk that another has read."""
    for top in (material.first, material.second):
        for path in [top, *top.rglob("*")]:
            if path.is_file():
                with path.open("rb") as read:
                    while read.read(_READ_BYTES):
                        pass


def _remove_scratch(data: Path) -> None:
    """Remove what runs that were killed have left."""
    for path in data.glob(f"{_SCRATCH}*"):
        if not Path("/proc", path.name.removeprefix(_SCRATCH)).exists():
            shutil.rmtree(path, ignore_errors=True)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
