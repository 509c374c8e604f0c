"""T20: what is imported with us does nothing by being imported, and our own code has no way to run what it reads."""

import ast
import subprocess
import sys
import tomllib

from tests.architecture.tree import ROOT, report, sources

RUNS_DATA = {"pickle", "marshal", "shelve", "dill", "joblib", "xml", "telnetlib", "ftplib", "imp"}
CALLS = {"eval", "exec", "compile", "__import__"}


def test_no_module_of_ours_can_run_or_unpickle_what_it_reads():
    problems = []
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                problems += [f"{source.name}:{node.lineno} imports {name}" for name in names if name.split(".")[0] in RUNS_DATA]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
                problems.append(f"{source.name}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.keyword) and node.arg == "shell":
                problems.append(f"{source.name}:{node.value.lineno} asks for a shell")
            if isinstance(node, ast.Attribute) and node.attr in {"extractall", "unsafe_load", "full_load"}:
                problems.append(f"{source.name}:{node.lineno} uses {node.attr}")

    assert not problems, report(problems, "read the bytes with a bounded parser of ours")


def test_importing_everything_opens_no_socket_and_resolves_no_name():
    """Dependencies included: nothing calls home."""
    names = [source.module for source in sources() if not source.module.startswith("gateway.catalog.migrations")]
    program = f"""
import sys, importlib, socket
def hook(event, args):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print(event, *args)
sys.addaudithook(hook)
for name in {names!r}:
    importlib.import_module(name)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def test_what_parses_or_encrypts_outside_bytes_has_a_lowest_version():
    """A known hole is closed by a floor: an older one is not installed beside us."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    floors = {one.split(">=")[0] for one in wanted if ">=" in one}

    assert {"cryptography", "aiohttp", "pydantic", "blake3"} <= {name.split("[")[0] for name in floors}
