"""The threat model against the tree: tests that it names exist, attacks that exist are named, no threat is passed over."""

import ast
import re
from functools import cache

from tests.architecture.tree import ROOT, report

TEXT = (ROOT / "docs/threat-model.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w./-]+\.py)::(\w+)`")


@cache
def names_in(path):
    """Return the names of the tests in a file of the tree."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def sections():
    """Return the text of each threat by its number."""
    pieces = re.split(r"^### T(\d+) ", TEXT.split("## Bad input")[0], flags=re.MULTILINE)
    return dict(zip(map(int, pieces[1::2]), pieces[2::2], strict=True))


def test_every_test_that_the_threat_model_names_exists():
    problems = [
        f"{path}::{name}" for path, name in NAMED.findall(TEXT) if not (ROOT / path).exists() or name not in names_in(path)
    ]

    assert len(NAMED.findall(TEXT)) > 50
    assert not problems, report(problems, "correct the name in docs/threat-model.md")


def test_every_attack_is_in_the_threat_model():
    named = {path for path, _ in NAMED.findall(TEXT)}
    problems = [
        name for path in (ROOT / "tests/attacks").glob("test_*.py") if (name := path.relative_to(ROOT).as_posix()) not in named
    ]

    assert not problems, report(problems, "name one of its tests in docs/threat-model.md, under its threat")


def test_every_threat_has_a_defence_with_a_test_or_says_what_is_missing():
    found = sections()
    problems = [
        f"T{number}"
        for number, text in found.items()
        if not NAMED.search(text) or not ("**Defence**" in text or "**Not met yet**" in text)
    ]

    assert sorted(found) == list(range(1, 25))
    assert not problems, report(problems, "name what stops it and the test that tries, or what is not met yet")


def test_an_attack_named_after_a_threat_stands_under_it():
    found = sections()
    numbered = [(path, int(match[1])) for path, _ in NAMED.findall(TEXT) if (match := re.search(r"/test_t(\d+)_", path))]
    problems = [f"{path} is not under T{number}" for path, number in sorted(set(numbered)) if path not in found[number]]

    assert not problems, report(problems, "move it, or rename the file")
