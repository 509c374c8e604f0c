"""Documents that people write: complete where a program can tell."""

import re
import tomllib

import pytest

from tests.architecture.tree import ROOT, report

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
SECTIONS = ("## Context", "## Options", "## Outcome", "## Negative consequences", "## How we would know it was wrong")
WORDS = """
    site, agent, lane, lane mode, relay, artifact, closure, evidence set, transfer, delivery, chunk, segment, index,
    artifact key, originator, sealer, sender, initiator, lineage key, row, resume key, key release, base, waybill,
    packing list, routing slip, inspector, gate, decision, approval, log, checkpoint, witness, receipt, trust bundle,
    revocation set, custody, part, digest, obligation, fact
""".replace("\n", " ").split(",")


def table_names(text: str) -> list[str]:
    """Return the first cells of all table rows, without marks."""
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [row.replace("`", "").replace("*", "") for row in rows]


def test_every_dependency_is_explained_and_nothing_else_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.split(r"[\[><=!;~ ]", requirement)[0] for requirement in wanted}
    explained = set(table_names((ROOT / "docs/dependencies.md").read_text("utf-8"))) - {"package"}

    assert sorted(explained) == sorted(names), "docs/dependencies.md has a row for each requirement of pyproject.toml"


def test_the_glossary_has_every_word():
    known = {name.strip() for cell in table_names((ROOT / "docs/glossary.md").read_text("utf-8")) for name in cell.split(",")}

    assert not (missing := [word for word in map(str.strip, WORDS) if word not in known]), report(
        missing, "add the word to docs/glossary.md"
    )


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_record_is_complete(path):
    text = path.read_text("utf-8")
    problems = [f"no {section}" for section in SECTIONS if section not in text]
    problems += [f"no {name}" for name in ("Status:", "Date:") if name not in text]
    problems += [f"{count} lines"] if (count := text.count("\n")) > 60 else []

    assert not problems, report(problems, "one page in the form of the others, negative consequences included")
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+", path.stem)


def test_decision_records_are_numbered_without_gaps():
    assert [int(path.stem[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_changelog_fragments_are_of_a_known_kind():
    problems = [
        path.name
        for path in (ROOT / "changelog.d").iterdir()
        if path.name != "README.md" and not re.fullmatch(r"[a-z0-9-]+\.(?:added|changed|fixed|security|removed)\.md", path.name)
    ]

    assert not problems, report(problems, "name it <slug>.<added|changed|fixed|security|removed>.md")


def test_the_verbs_of_the_makefile_are_in_the_contributors_guide():
    verbs = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")

    missing = [verb for verb in verbs if verb != "help" and f"`make {verb}`" not in guide]

    assert not missing, report(missing, "explain it there")
