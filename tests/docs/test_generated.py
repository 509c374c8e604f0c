import pytest

from tests.docs.generated import COMMAND, PARTS, part


@pytest.mark.parametrize(("document", "name"), PARTS, ids=lambda text: text.replace("/", "-"))
def test_the_document_says_what_the_program_does(document, name):
    assert part(document, name) == PARTS[document, name](), f"the program has changed: run `{COMMAND}` and commit {document}"
