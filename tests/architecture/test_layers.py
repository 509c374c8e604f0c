"""Which part may know which. `lint-imports` checks the three packages by `.importlinter`; the layers inside are checked here."""

import subprocess
import sys

from tests.architecture.tree import ROOT, graph, imported, report, sources

EDGE = ("gateway.http", "gateway.registry", "gateway.console", "gateway.commands", "gateway.cli")
ADAPTERS = ("gateway.storage", "gateway.catalog", "gateway.translog", "gateway.lists", "gateway.keyring", "gateway.jobs")
ASSEMBLERS = (
    *("gateway.assembly", "gateway.maintenance", "gateway.sitedir", "gateway.offline", "gateway.dev", "gateway.commands"),
    *("gateway.backing_up", "gateway.doctor"),
)
"""What builds a site, keeps it going, or works on one that is not running: the only places that name concrete adapters."""
PORTS = ("gateway.ports", "gateway.records", "gateway.settings", "gateway.passage_rows", "gateway.passage_records")
IMPURE = (
    *("aiohttp", "asyncio", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil"),
    *("signal", "socket", "sqlalchemy", "sqlite3", "ssl", "stamina", "structlog", "subprocess", "tempfile", "threading", "time"),
    *("typer", "urllib", "uvloop"),
)
"""Clocks, files, sockets, tasks, logging and randomness, and what is built on them."""


def inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def crossings(importers: tuple[str, ...] | None, imports: tuple[str, ...], *, but: tuple[str, ...] = ()) -> list[str]:
    """Return direct imports from `importers` (None: all of the gateway) to `imports`, except those by `but` and their own."""
    found = []
    for module in sorted(graph().modules):
        if not module.startswith("gateway") or (importers is not None and not inside(module, importers)) or inside(module, but):
            continue
        found += [
            f"{module} imports {other}"
            for other in sorted(graph().find_modules_directly_imported_by(module))
            if inside(other, imports)
        ]
    return found


def test_the_packages_depend_on_each_other_as_the_contracts_say():
    ran = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache", "--no-logo"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_core_has_no_clock_files_sockets_tasks_logging_or_randomness():
    problems = [
        f"{source.name}:{line} imports {name}"
        for source in sources()
        if source.module.startswith("carnet") and not inside(source.module, ("carnet.flow",))
        for name, line in imported(source.tree)
        if name.split(".")[0] in IMPURE
    ]

    assert not problems, report(problems, "pass the value in from the edge, or put the module into carnet/flow")


def test_use_cases_know_ports_and_no_adapter():
    problems = crossings(None, ADAPTERS, but=(*ADAPTERS, *ASSEMBLERS))

    assert not problems, report(problems, "use the port in gateway/ports.py; only gateway/assembly.py and its like name adapters")


def test_nothing_below_the_edge_knows_the_edge():
    problems = crossings(None, EDGE, but=(*EDGE, *ASSEMBLERS))

    assert not problems, report(problems, "a use case returns values and raises carnet.errors; the edge turns them into answers")


def test_adapters_know_ports_and_each_other_and_no_use_case():
    shared = (*ADAPTERS, *PORTS, "gateway.batching", "gateway.descriptors", "gateway.telemetry")
    problems = [line for line in crossings(ADAPTERS, ("gateway",)) if not inside(line.split()[-1], shared)]

    assert not problems, report(
        problems, "an adapter implements a port; what it shares with a use case belongs to ports or records"
    )
