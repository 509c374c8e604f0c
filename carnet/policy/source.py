r"""The YAML subset that policies are written in, read strictly, with the line of every value.

YAML 1.1 turns `NO` into false, `1:30` into 90 and lets a file of 1 KiB unfold to gigabytes. A policy is law: here a plain
scalar is `true`, `false`, a decimal integer or text, and nothing else.

Rules:      1. no anchors, aliases, tags, merge keys or second documents  2. duplicate keys are refused
            3. size and depth are bounded before values are made  4. every problem names its line
Spec:       YAML 1.2.2 section 10.2 (JSON schema), narrowed; docs/policy.md
Example:    >>> parse_yaml("a: NO\nb: [1, true]").value
            {'a': 'NO', 'b': [1, True]}
"""

import re
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import yaml
from pydantic import ValidationError

from carnet.encoding import INTEGER_MAX, JsonValue, canonical
from carnet.errors import CallerError, PeerError
from carnet.limits import JSON_DEPTH_MAX, POLICY_BYTES_MAX
from carnet.policy.mistakes import mistakes
from carnet.statement import WireModel

Path: TypeAlias = tuple[str | int, ...]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_INTEGER_CHARS_MAX = 17
_WORDS = {"true": True, "false": False}
_TURNS_TEXT = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that make text look as if it stood in another order (CVE-2021-42574); who approves reads what rules say."""


@dataclass(frozen=True)
class SourceTree:
    """A document as JSON values, and where each stood."""

    value: JsonValue
    lines: dict[Path, int] = field(repr=False)

    def line(self, path: Path) -> int:
        """Return the 1-based line of `path`, or of its nearest ancestor that has one."""
        for length in range(len(path), -1, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return 1


Document = TypeVar("Document", bound=WireModel)


def parse_as(model: type[Document], text: str, name: str) -> Document:
    """Return the document in `text`; raise `CallerError` E-POLICY with `name` and line of the first mistake."""
    try:
        tree = parse_yaml(text)
        said = canonical(tree.value)
    except (CallerError, PeerError) as error:
        raise CallerError("E-POLICY", f"{name}: {error.problem}") from None
    try:
        # Through JSON text: in strict mode pydantic then reads lists as tuples and texts as enums, and coerces nothing.
        return model.model_validate_json(said, strict=True)
    except ValidationError as error:
        place, problem = next(mistakes(error, model, tree.value))
        raise CallerError("E-POLICY", f"{name}: line {tree.line(place)}: {problem}") from None


def parse_yaml(text: str) -> SourceTree:
    """Return the document in `text`; raise `CallerError` E-POLICY with the line of the first problem."""
    size = len(text.encode("utf-8", "replace"))
    if size > POLICY_BYTES_MAX:
        raise CallerError("E-POLICY", f"policy of {size} bytes, at most {POLICY_BYTES_MAX} are read")
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise _problem(line, error.problem or error.context or "not YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _problem(1, f"not YAML: {type(error).__name__}") from None
    if node is None:
        raise _problem(1, "the document is empty")
    lines: dict[Path, int] = {}
    return SourceTree(_value(node, (), lines), lines)


def _problem(line: int, text: str) -> CallerError:
    return CallerError("E-POLICY", f"line {line}: {text}")


def _line(marked: yaml.Event | yaml.Node) -> int:
    return 1 if marked.start_mark is None else marked.start_mark.line + 1


def _check_events(text: str) -> None:
    """Refuse what rule 1 and 3 refuse on the flat event stream, before the recursive composer sees it."""
    depth = 0
    documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line(event)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if documents > 1:
            raise _problem(line, "a policy file holds one document")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _problem(line, "anchors and aliases are not part of the policy language")
        if getattr(event, "tag", None) is not None:
            raise _problem(line, "tags are not part of the policy language")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > JSON_DEPTH_MAX:
            raise _problem(line, f"nested deeper than {JSON_DEPTH_MAX}")


def _value(node: yaml.Node, path: Path, lines: dict[Path, int]) -> JsonValue:
    lines.setdefault(path, _line(node))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(member, (*path, number), lines) for number, member in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode):
        raise _problem(_line(node), "not a part of the policy language")
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int]) -> JsonValue:
    found: dict[str, JsonValue] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            raise _problem(line, "a key is a word")
        key = _readable(key_node)
        if key in found:
            raise _problem(line, f"the key {key!a} stands twice")
        lines[(*path, key)] = line
        found[key] = _value(value_node, (*path, key), lines)
    return found


def _scalar(node: yaml.ScalarNode) -> JsonValue:
    text = _readable(node)
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text in ("", "~", "null"):
        raise _problem(_line(node), "a value is missing")
    if _INTEGER.fullmatch(text):
        if len(text) > _INTEGER_CHARS_MAX or abs(int(text)) > INTEGER_MAX:
            raise _problem(_line(node), "an integer beyond 2^53-1")
        return int(text)
    return text


def _readable(node: yaml.ScalarNode) -> str:
    """Return the text of a scalar; refuse what would be shown in another order than it is read in."""
    text: str = node.value
    if _TURNS_TEXT.search(text):
        raise _problem(_line(node), "a character that turns the direction of the text round it")
    return text
