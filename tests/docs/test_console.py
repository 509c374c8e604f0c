"""What the README and other documents show is run, in order, in an empty directory with both commands on the path."""

import pytest

from tests.architecture.tree import ROOT
from tests.docs.console import Step, matches, run, steps

SHOWN = [path for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]) if steps(path.read_text("utf-8"))]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_the_document_shows_what_happens(path, tmp_path):
    problems = run(steps(path.read_text("utf-8")), tmp_path, timeout_s=400)

    assert not problems, "\n\n".join(problems)


def test_the_readme_shows_commands_that_run():
    assert ROOT / "README.md" in SHOWN


def test_a_wrong_output_and_a_failing_command_are_noticed(tmp_path):
    shown = [
        Step("echo a", ("a",)),
        Step("echo b", ("c",)),
        Step("(exit 3)", ()),
        Step("false", ("[exit 1]",)),
    ]

    problems = run(shown, tmp_path, timeout_s=20)

    assert [problem.splitlines()[0] for problem in problems] == ["$ echo b", "$ (exit 3)"]


def test_three_dots_do_not_hide_a_failure(tmp_path):
    (problem,) = run([Step("echo x; false", ("...",))], tmp_path, timeout_s=20)

    assert problem.endswith("x\n[exit 1]")


def test_three_dots_stand_for_the_rest_of_a_line_or_for_any_lines():
    assert matches(("a ... z", "...", "end"), ["a 1 z", "x", "y", "end"])
    assert matches(("a ... z", "...", "end"), ["a  z", "end"])
    assert not matches(("a ... z", "end"), ["a 1 z", "x", "end"])


def test_blocks_are_read_in_order_with_continued_commands():
    text = "```console\n$ one \\\n> two\nout\n$ three\n```\ntext\n```sh\nnot this\n```\n```console\n$ four\n```\n"

    assert steps(text) == [Step("one \\\ntwo", ("out",)), Step("three", ()), Step("four", ())]
