"""Every example in a docstring runs and gives what it shows."""

import doctest
import importlib
import re
from types import ModuleType

import pytest

from tests.architecture.tree import sources

_LABEL = re.compile(r"^( *)Example:( *)>>>", re.MULTILINE)


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    """Return the examples of a module; the label that may stand before a first prompt is taken for spaces."""
    finder = doctest.DocTestFinder(parser=_Parser(), exclude_empty=True)
    return [found for found in finder.find(module) if found.examples]


class _Parser(doctest.DocTestParser):
    def get_doctest(self, string: str, *rest: object) -> doctest.DocTest:
        spaced = _LABEL.sub(lambda match: " " * (len(match[0]) - 3) + ">>>", string)
        return super().get_doctest(spaced, *rest)  # type: ignore[arg-type]


def modules() -> list[str]:
    paths = (source.name for source in sources())
    return [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths if path.startswith("carnet/")]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    module = importlib.import_module(name)
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    for test in examples_of(module):
        runner.run(test, out=failures.append)

    assert not failures, "".join(failures)


def test_examples_are_found_although_a_label_stands_before_them() -> None:
    assert examples_of(importlib.import_module("carnet.encoding"))
