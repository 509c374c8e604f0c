"""What documents and docstrings point to is there."""

import ast
import re

import pytest

from carnet.errors import CODES
from tests.architecture.tree import ROOT, report, sources
from tests.docs.generated import root_command

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINKED = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:carnet|agent|gateway|tests|docs|certs|benchmarks|demo|deploy)/[\w./-]*\.(?:py|md|c|txt|yaml|service))`")
SPECIFIED = re.compile(r'(docs/[\w./-]+\.md)((?:\s+sections?)?(?:(?:,| and)?\s+"[^"]+")*)')


def headings(text: str) -> set[str]:
    """Return the headings of a document, without marks and numbers."""
    return {re.sub(r"^[\d.]+\s+|`", "", line.lstrip("#").strip()) for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_paths_in_documents_lead_somewhere(path):
    text = path.read_text("utf-8")
    links = [target.split("#")[0] for target in LINKED.findall(text) if not re.match(r"[a-z]+:|#", target)]
    named = NAMED.findall(text)
    problems = [f"link to {target}" for target in links if target and not (path.parent / target).exists()]
    problems += [f"`{name}`" for name in named if not (ROOT / name).exists()]

    assert not problems, report(problems, f"correct it in {path.relative_to(ROOT)}")


def test_documents_and_sections_that_docstrings_cite_exist():
    problems = []
    for source in sources():
        docstring = " ".join((ast.get_docstring(source.tree) or "").split())
        for document, named in SPECIFIED.findall(docstring):
            if not (ROOT / document).exists():
                problems.append(f"{source.name} cites {document}, which does not exist")
                continue
            there = headings((ROOT / document).read_text("utf-8"))
            absent = [section for section in re.findall(r'"([^"]+)"', named) if section.replace("`", "") not in there]
            problems += [f'{source.name} cites {document} section "{section}", which does not exist' for section in absent]

    assert not problems, report(problems, "write the section, or cite the one there is")


SHOWN_COMMAND = re.compile(r"`(carnet(?:-gateway)? [a-z][^`]*)`")


# The formats spell labels that begin like the program's name.
@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if path.name not in {"formats.md", "statements.md"}],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_commands_that_documents_name_exist(path):
    shown = SHOWN_COMMAND.findall(re.sub(r"<!-- generated.*?<!-- end -->", "", path.read_text("utf-8"), flags=re.DOTALL))
    problems = [problem for text in shown if (problem := command_problem(text)) is not None]

    assert not problems, report(problems, f"correct it in {path.relative_to(ROOT)}")


def test_commands_that_remedies_name_exist():
    problems = [
        f"{code}: {problem}"
        for code, remedy in CODES.items()
        for text in SHOWN_COMMAND.findall(remedy)
        if (problem := command_problem(text)) is not None
    ]

    assert not problems, report(problems, "correct the remedy in carnet/errors.py")


def command_problem(text: str) -> str | None:
    """Return what is wrong with a command line as a document shows it, or None."""
    program, *words = text.split()
    command = root_command(program)
    while words and getattr(command, "commands", None):
        word = words.pop(0)
        if word.startswith("-"):
            return None if word in options(command) else f"`{text}`: {program} has no option {word}"
        if word not in command.commands:
            return f"`{text}`: there is no command {word}"
        command = command.commands[word]
    unknown = [word.split("=")[0] for word in words if word.startswith("--") and word.split("=")[0] not in options(command)]
    return f"`{text}`: no option {unknown[0]}" if unknown else None


def options(command) -> set[str]:
    """Return the options of a command, `--help` included."""
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
