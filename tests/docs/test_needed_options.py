"""A command that the handbook of operations shows with its arguments is shown with every option without which it does not run."""

from tests.architecture.tree import ROOT, report
from tests.docs.generated import is_needed, root_command
from tests.docs.test_references import SHOWN_COMMAND

TEXT = (ROOT / "docs/operations.md").read_text("utf-8")


def missing_options(text: str) -> list[str]:
    """Return the options that a shown command needs and does not have; none if it is only named, without an argument."""
    program, *words = text.replace("\\|", "|").split()
    command = root_command(program)
    while words and getattr(command, "commands", None):
        command = command.commands[words.pop(0)]
    given = {word.split("=")[0] for word in words}
    return [parameter.opts[0] for parameter in command.params if words and is_needed(parameter) and not given & {*parameter.opts}]


def test_commands_are_shown_with_the_options_that_they_need():
    shown = SHOWN_COMMAND.findall(TEXT)
    problems = [f"`{text}`: {', '.join(absent)}" for text in shown if (absent := missing_options(text))]

    assert "carnet-gateway attest withdraw DIR ID --reason REASON" in shown
    assert not problems, report(
        problems, "correct it in docs/operations.md, or run `python -m tests.docs.generated` for its tables"
    )


def test_an_option_that_is_left_out_is_noticed():
    assert missing_options("carnet-gateway licence withdraw DIR ID") == ["--reason"]
    assert missing_options("carnet-gateway licence withdraw") == []
