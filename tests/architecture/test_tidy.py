"""The habits that keep the tree readable, as checks. A message ends with what to do."""

import ast
import re
import subprocess
import sys

from tests.architecture.tree import PACKAGES, ROOT, functions, graph, report, sources, tracked

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
BANNED_STEMS = {"utils", "util", "helpers", "helper", "misc", "common", "stuff", "tools"}
CATCH_ALL_ALLOWED = {
    "gateway/policies.py": "makes a hold of a defect in the engine",
    "gateway/advising.py": "tells of a defect in the search as unknown: nothing is decided by it",
    "gateway/http/problems.py": "turns what nobody expected into a problem document",
    "gateway/jobs.py": "supervises background work",
    "gateway/rechecking.py": "tells of a defect about one transfer and looks at the others; pulls of it ask for themselves",
    "gateway/assembly.py": "supervises the server's tasks",
    "carnet/flow/commandline.py": "is where every command of both ends ends",
    "agent/cli.py": "is a main",
    "gateway/batching.py": "hands the error to whoever waits for the batch",
    "gateway/catalog/engine.py": "hands the error to whoever waits for the change",
}
ENVIRONMENT_READERS = {"gateway/settings.py", "agent/settings.py", "carnet/flow/starting.py"}
"""The last reads no setting: it tells OpenSSL which authorities not to read."""
ENTRY_POINTS = {"agent.cli", "gateway.cli", *PACKAGES}
ONLY_FOR_TESTS = {"gateway.storage.memory"}
"""Fakes that pass the port's own contract suite, kept beside the real adapters."""
FOUND_BY_NAME = ("gateway.catalog.migrations",)
"""Modules that a framework loads by their path."""
MACHINE_PATHS = re.compile(r"/(?:home|Users)/[a-z]|/work/|/tmp/(?!\$)[a-z]+/[a-z]|C:\\\\")
OPEN_ENDS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
OURS_TO_NAME = {"tests/architecture/test_tidy.py"}
"""This file spells out what it forbids."""


def test_files_are_short():
    problems = [f"{source.name}: {count} lines" for source in sources() if (count := source.text.count("\n")) > FILE_LINES_MAX]

    assert not problems, report(
        problems, f"a file is one noun and at most {FILE_LINES_MAX} lines: give the second noun its own file"
    )


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines below the signature: a command's flags are its signature, and ruff bounds their number."""
    return (node.end_lineno or node.lineno) - node.body[0].lineno + 1


def test_functions_are_short():
    problems = [
        f"{source.name}:{node.lineno} {node.name}: {length} lines"
        for source in sources()
        for node in functions(source.tree)
        if (length := body_lines(node)) > FUNCTION_LINES_MAX
    ]

    assert not problems, report(problems, f"at most {FUNCTION_LINES_MAX} lines: make numbered steps functions; ifs up, fors down")


def test_every_module_says_what_it_is():
    problems = [source.name for source in sources() if not ast.get_docstring(source.tree)]

    assert not problems, report(problems, "begin the file with a docstring: one sentence, the noun this file owns")


def test_every_module_of_the_shared_package_gives_its_rules_or_its_specification():
    problems = [
        source.name
        for source in sources()
        if source.module.startswith("carnet")
        and not re.search(r"^(?:Rules|Spec):", ast.get_docstring(source.tree) or "", re.MULTILINE)
    ]

    assert not problems, report(
        problems, "add `Rules:` (laws a reviewer can check) or `Spec:` (where it is specified) to the docstring"
    )


def test_no_file_is_a_drawer():
    problems = [source.name for source in sources() if source.path.stem in BANNED_STEMS]

    assert not problems, report(problems, "name the concept, or keep it private beside its only caller")


def test_nobody_catches_what_they_cannot_act_on():
    problems = [
        f"{source.name}:{node.lineno}"
        for source in sources()
        if source.name not in CATCH_ALL_ALLOWED
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and (node.type is None or _catches_all(node.type)) and not _passes_on(node)
    ]

    assert not problems, report(problems, "catch the errors you can act on; the edges listed in CATCH_ALL_ALLOWED catch the rest")


def test_only_settings_read_the_environment():
    problems = [
        f"{source.name}:{node.lineno}"
        for source in sources()
        if source.name not in ENVIRONMENT_READERS
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    ]

    assert not problems, report(problems, "read it in settings.py and pass the value in")


def test_every_module_is_used_by_another_or_is_an_entry_point():
    known = graph()
    problems = [
        source.name
        for source in sources()
        if source.module not in ENTRY_POINTS | ONLY_FOR_TESTS
        and not source.module.startswith(FOUND_BY_NAME)
        and not known.find_modules_that_directly_import(source.module)
        and not any(known.find_modules_that_directly_import(child) for child in known.find_descendants(source.module))
    ]

    assert not problems, report(problems, "use the module, or take it out")


def test_importing_a_module_does_nothing():
    """No socket, no process, no thread, no file of ours written or read: only definitions."""
    program = f"""
import sys, importlib, threading
names = {[source.module for source in sources() if not source.module.startswith(FOUND_BY_NAME)]!r}
doing = []
watched = ("socket.connect", "socket.bind", "socket.listen", "subprocess.Popen", "os.system", "os.mkdir", "os.remove",
           "os.rename", "sqlite3.connect", "os.fork", "os.posix_spawn")
def hook(event, args):
    if event in watched or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")):
        if not str(args[0]).endswith((".pyc", "/dev/null")) and ".pyc." not in str(args[0]):
            doing.append((event, str(args[0])[:120]))
sys.dont_write_bytecode = True
sys.addaudithook(hook)
for name in names:
    before = len(doing)
    importlib.import_module(name)
    for event in doing[before:]:
        print(name, *event)
for thread in threading.enumerate()[1:]:
    print("a thread runs after the imports:", thread.name)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert ran.returncode == 0, ran.stderr
    assert not ran.stdout, report(ran.stdout.splitlines(), "move the work into a function that assembly calls")


def test_no_private_key_is_in_the_project():
    marker = b"PRIVATE " + b"KEY-----"
    problems = [
        path.relative_to(ROOT).as_posix() for path in tracked() if b"-----BEGIN" in (data := path.read_bytes()) and marker in data
    ]

    assert not problems, report(problems, "make keys in a temporary directory when the test runs")


def test_no_file_names_a_path_of_one_machine_or_leaves_work_open():
    problems = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name in OURS_TO_NAME or path.suffix not in {".py", ".md", ".toml", ".yaml", ".c", ".txt", ".service", ""}:
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if MACHINE_PATHS.search(line):
                problems.append(f"{name}:{number} names a path of one machine")
            if path.suffix in {".py", ".c"} and OPEN_ENDS.search(line):
                problems.append(f"{name}:{number} leaves work open")

    assert not problems, report(
        problems, "use tmp_path or a relative path; finish the work or file an issue, and delete the note"
    )


def _catches_all(node: ast.expr) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"} for name in names)


def _passes_on(node: ast.ExceptHandler) -> bool:
    """Tell whether the handler cleans up and lets the error go on, or gives it to whoever awaits the result."""
    if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
        return True
    return node.name is not None and any(
        isinstance(call, ast.Call)
        and "set_exception" in ast.unparse(call)
        and any(isinstance(argument, ast.Name) and argument.id == node.name for argument in call.args)
        for call in ast.walk(node)
    )
