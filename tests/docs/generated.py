"""The parts of the documents that are made from the program: `python -m tests.docs.generated` writes them, a test compares.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. What is between is never edited by hand.
"""

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.architecture.tree import PACKAGES, ROOT, sources
from tests.docs import protocol_parts

COMMAND = "python -m tests.docs.generated"
_FAMILIES = {
    1: "something else went wrong: a defect, a limit, a state that does not allow it",
    3: "held: policy waits for a person, a fact or a date",
    4: "denied or quarantined by policy",
    5: "temporary: the same command may succeed later, and continues",
    6: "integrity: bytes, a signature or a proof is not what it claims",
    7: "not authorised",
    8: "not found, or not visible to this identity",
    2: "usage: the command, the configuration or a name is wrong",
}


def file_map() -> str:
    """Return a table for each package: every file with the first sentence of its docstring."""
    pieces = []
    for package in PACKAGES:
        rows = []
        for source in sources():
            if not source.module.startswith(package) or "/versions/" in source.name:
                continue
            if source.path.name == "__init__.py" and not (ast.get_docstring(source.tree) or "").strip():
                continue
            rows.append(f"| `{source.name}` | {_cell(_first_sentence(ast.get_docstring(source.tree) or ''))} |")
        pieces.append("\n".join([f"| {package} | |", "|---|---|", *rows]))
    return "\n\n".join(pieces)


def error_codes() -> str:
    """Return the table of stable codes."""
    errors = importlib.import_module("carnet.errors")
    rows = [f"| `{code}` | {_cell(remedy)} |" for code, remedy in errors.CODES.items()]
    return "\n".join(["| code | what to do |", "|---|---|", *rows])


def exit_statuses() -> str:
    """Return the table of exit statuses with the families of errors that end in them."""
    errors = importlib.import_module("carnet.errors")
    by_status: dict[int, list[str]] = {}
    for name, family in errors.FAMILIES.items():
        by_status.setdefault(family.exit_status, []).append(f"`{name}`")
    rows = ["| 0 | done | |"]
    rows += [f"| {status} | {_FAMILIES[status]} | {', '.join(names)} |" for status, names in sorted(by_status.items())]
    rows.append("| 130 | interrupted by Ctrl-C or SIGTERM; the same command continues | |")
    return "\n".join(["| status | meaning | families |", "|---|---|---|", *rows])


def gateway_settings() -> str:
    """Return the keys of `gateway.toml`."""
    return _settings("gateway.settings", "GatewaySettings")


def agent_settings() -> str:
    """Return the keys of `carnet.toml`."""
    return _settings("agent.settings", "AgentSettings")


def agent_commands() -> str:
    """Return the commands of `carnet`."""
    return _commands("carnet")


def gateway_commands() -> str:
    """Return the commands of `carnet-gateway`."""
    return _commands("carnet-gateway")


def metrics() -> str:
    """Return the series that a gateway shows."""
    module = importlib.import_module("gateway.telemetry.metrics")
    rows = []
    for series in module.Metrics().registry.collect():
        kind = series.type
        rows.append(f"| `{series.name}{'_total' if kind == 'counter' else ''}` | {kind} | {_cell(series.documentation)} |")
    return "\n".join(["| series | type | meaning |", "|---|---|---|", *rows])


def doctor_codes() -> str:
    """Return what `carnet-gateway doctor` looks at."""
    findings = importlib.import_module("gateway.doctor.findings")
    rows = [f"| `{code}` | {_cell(meaning)} |" for code, meaning in findings.CODES.items()]
    return "\n".join(["| code | ok means |", "|---|---|", *rows])


def grants() -> str:
    """Return the actions that can be granted, and the roles that stand for them."""
    known = importlib.import_module("gateway.grants")
    rows = [f"| `{action}` | {_cell(meaning)} |" for action, meaning in known.ACTIONS.items()]
    actions = "\n".join(["| action | lets one |", "|---|---|", *rows])
    listed = {role: [f"`{action}`" for action in known.ACTIONS if action in given] for role, given in known.ROLES.items()}
    rows = [f"| `{role}` | {', '.join(words)} |" for role, words in listed.items()]
    return "\n".join([actions, "", "| role | stands for |", "|---|---|", *rows])


def policy_facts() -> str:
    """Return the facts that rules may read."""
    facts = importlib.import_module("carnet.policy.facts")
    rows = [
        f"| `{name}` | {kind.value} | {_supplied(facts, name)} | {_cell(meaning)} |"
        for name, (kind, meaning) in facts.FACTS.items()
    ]
    rows.append("| `label.<key>` | text | sender | a label that the sender put on it |")
    return "\n".join(["| fact | type | from | meaning |", "|---|---|---|---|", *rows])


def _supplied(facts: ModuleType, name: str) -> str:
    """Return who makes a fact known, shortly."""
    by = facts.supplier(name).name.lower()
    return f"{by} or people" if by == "sender" and facts.is_attestable(name) else by


def policy_obligations() -> str:
    """Return the kinds of obligations that rules may ask for."""
    known = importlib.import_module("carnet.policy.obligations")
    rows = [
        f"| `{name}` | {', '.join(sorted(kind.gates))} | {_cell(kind.meaning)} | {kind.nature.value} |"
        for name, kind in known.KINDS.items()
    ]
    return "\n".join(["| kind | gates | what | who sees to it |", "|---|---|---|---|", *rows])


def policy_groups() -> str:
    """Return the groups of jurisdictions that come with this version."""
    known = importlib.import_module("gateway.geography").shipped_groups()
    rows = [
        f"| `{name}` | {_cell(group.title)} | {len(group.members)} | {_cell(group.cite or file.source)} |"
        for file in known.files
        for name, group in file.groups.items()
    ]
    return "\n".join(["| group | what | members | rests on |", "|---|---|---|---|", *rows])


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("ARCHITECTURE.md", "file-map"): file_map,
    ("docs/operations.md", "error-codes"): error_codes,
    ("docs/operations.md", "exit-statuses"): exit_statuses,
    ("docs/operations.md", "gateway-settings"): gateway_settings,
    ("docs/operations.md", "metrics"): metrics,
    ("docs/operations.md", "doctor"): doctor_codes,
    ("docs/operations.md", "grants"): grants,
    ("docs/operations.md", "agent-settings"): agent_settings,
    ("docs/operations.md", "agent-commands"): agent_commands,
    ("docs/operations.md", "gateway-commands"): gateway_commands,
    ("docs/policy.md", "policy-facts"): policy_facts,
    ("docs/policy.md", "policy-groups"): policy_groups,
    ("docs/policy.md", "policy-obligations"): policy_obligations,
    ("docs/protocol.md", "paths"): protocol_parts.path_table,
    ("docs/protocol.md", "messages"): protocol_parts.message_examples,
    ("docs/protocol.md", "problem"): protocol_parts.problem_example,
    ("docs/protocol.md", "limits"): protocol_parts.limit_table,
    ("docs/protocol.md", "states"): protocol_parts.state_tables,
}


def part(document: str, name: str) -> str:
    """Return what stands in the document now."""
    found = re.search(_pattern(name), (ROOT / document).read_text("utf-8"), re.DOTALL)
    if found is None:
        raise LookupError(f"{document} has no part <!-- generated: {name} --> ... <!-- end -->")
    return found[2].strip("\n")


def write() -> list[str]:
    """Write every part that can be made; return what could not."""
    failed = []
    for (document, name), make in PARTS.items():
        path = ROOT / document
        try:
            made = make()
            before = part(document, name)
        except (ImportError, AttributeError, LookupError, OSError) as error:
            failed.append(f"{document} {name}: {error}")
            continue
        if made != before:
            text = path.read_text("utf-8")
            found = re.search(_pattern(name), text, re.DOTALL)
            if found is not None:
                start, end = found.span(2)
                path.write_text(f"{text[:start]}\n{made}\n{text[end:]}", "utf-8")
    return failed


def _pattern(name: str) -> str:
    return rf"(<!-- generated: {re.escape(name)} -->)(.*?)(<!-- end -->)"


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    end = re.search(r"\.(?:\s|$)", paragraph)
    return paragraph[: end.start() + 1] if end else paragraph


def _cell(text: str) -> str:
    return text.replace("|", "\\|").strip()


def _settings(module_name: str, class_name: str) -> str:
    module = importlib.import_module(module_name)
    rows = list(_setting_rows(module, getattr(module, class_name), ""))
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _setting_rows(module: ModuleType, model: Any, prefix: str) -> Iterator[str]:
    said = _attribute_docstrings(module, model.__name__)
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from _setting_rows(module, field.annotation, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else f"`{_shown(field.default)}`"
        yield f"| `{prefix}{name}` | {default} | {_cell(said.get(name, name.replace('_', ' ')))} |"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(member) for member in value) + "]"
    return "none" if value is None else str(value)


def _attribute_docstrings(module: ModuleType, class_name: str) -> dict[str, str]:
    """Return the strings below the fields of a class."""
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    found = {}
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = " ".join(said.split())
    return found


def root_command(program: str) -> Any:
    """Return the command line of `carnet` or `carnet-gateway` as the parser sees it."""
    from typer.main import get_command

    module = importlib.import_module({"carnet": "agent.cli", "carnet-gateway": "gateway.cli"}[program])
    return get_command(module.build_app())


def _commands(program: str) -> str:
    root = root_command(program)
    rows = [f"| `{_cell(line)}` | {_cell(said)} |" for line, said in _command_rows(root, program)]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def _command_rows(command: Any, path: str) -> Iterator[tuple[str, str]]:
    if getattr(command, "commands", None):
        for name, child in command.commands.items():
            if not child.hidden:
                yield from _command_rows(child, f"{path} {name}")
        return
    arguments = "".join(f" {_argument(parameter)}" for parameter in command.params if parameter.param_type_name == "argument")
    options = "".join(f" {_option(parameter)}" for parameter in command.params if is_needed(parameter))
    yield f"{path}{arguments}{options}", _first_sentence(command.help or "")


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def is_needed(parameter: Any) -> bool:
    """Tell whether a parameter of a command is an option without which it does not run."""
    return parameter.param_type_name == "option" and bool(parameter.required)


def _option(parameter: Any) -> str:
    return f"{parameter.opts[0]} {parameter.metavar or parameter.opts[0].lstrip('-').upper()}"


if __name__ == "__main__":
    problems = write()
    sys.stdout.write("".join(f"not written: {problem}\n" for problem in problems))
