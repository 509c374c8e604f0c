"""The statement: a typed document whose canonical bytes are signed in an envelope.

Every signed document of ours is a subclass. A payload has exactly one encoding: opening re-encodes what was read and refuses a
difference, so two readers can never see two documents in the same signed bytes.

Rules:      1. verify before parse  2. a payload is RFC 8785 of its model, absent means none, and no other bytes are accepted
            3. unknown members are refused  4. every text, list and map has a bound
Spec:       docs/statements.md section "Statements"; RFC 8785
Example:    >>> Statement().payload()
            b'{"v":1}'
"""

import re
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, cast, overload

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from carnet import encoding
from carnet.envelope import Envelope, Keys, sign, verify
from carnet.errors import PeerError
from carnet.identifiers import Digest
from carnet.keys import SigningKey
from carnet.limits import STATEMENT_BYTES_MAX, TEXT_CHARS_MAX

_PATH_CHARS_MAX = 120
_MEMBERS_MAX = 64
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Unicode's category Cc, all of it."""
M = TypeVar("M", bound="WireModel")


def _check_text(text: str) -> str:
    """Refuse control characters: texts are shown on terminals and in the console."""
    if _CONTROL.search(text):
        raise ValueError("control character in text")
    return text


def _check_base64(text: str) -> str:
    try:
        encoding.decode_base64(text)
    except PeerError as error:
        raise ValueError(error.problem) from None
    return text


def _check_unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("an element appears twice")
    return values


def _check_facts(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        encoding.canonical(cast("encoding.JsonValue", values))
    except PeerError as error:
        raise ValueError(error.problem) from None
    return values


Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARS_MAX), AfterValidator(_check_text)]
"""One line of free text for people."""
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_check_text)]
"""A name, a code, a reference."""
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A machine word: a role, a rule's id, a label's key."""
MediaType = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9!#$&^_.+-]{1,127}/[a-zA-Z0-9!#$&^_.+-]{1,127}$")]
"""An RFC 6838 media type without parameters."""
Count = Annotated[int, Field(ge=0, le=encoding.INTEGER_MAX, strict=True)]
"""A number of things or of bytes."""
Positive = Annotated[int, Field(ge=1, le=encoding.INTEGER_MAX, strict=True)]
"""A number that starts at one: a version, a turn, a key number."""
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217, such as EUR."""
Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""32 bytes in lower-case hex."""
Base64Text = Annotated[str, StringConstraints(max_length=STATEMENT_BYTES_MAX), AfterValidator(_check_base64)]
"""Bytes in standard base64."""
Unique: Final = AfterValidator(_check_unique)
"""Marks a tuple whose elements differ from each other."""
FactMap = Annotated[dict[ShortText, JsonValue], Field(max_length=_MEMBERS_MAX), AfterValidator(_check_facts)]
"""Fact names and their values; no floats."""


class WireModel(BaseModel):
    """A document or a part of one: frozen, nothing unknown; its JSON leaves out what is none.

    Reading is strict (`parse_model`); a message that embeds one, already parsed, may hand it lists for tuples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> dict[str, encoding.JsonValue]:
        """Return the JSON value of this document, to be put inside a larger one."""
        value: dict[str, encoding.JsonValue] = self.model_dump(mode="json", exclude_none=True)
        return value

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        return encoding.canonical(self.to_json())


@overload
def parse_model(model: type[M], source: bytes, *, bytes_max: int) -> M: ...
@overload
def parse_model(model: type[M], source: encoding.JsonValue, *, bytes_max: int = ...) -> M: ...
def parse_model(model: type[M], source: bytes | encoding.JsonValue, *, bytes_max: int = STATEMENT_BYTES_MAX) -> M:
    """Return the `model` that `source` (JSON bytes, or a value parsed elsewhere) is.

    Raises:
        PeerError: E-FORMAT naming the path of the first problem, or the bound that was passed.
    """
    value = encoding.parse_json(source, bytes_max=bytes_max) if isinstance(source, bytes) else source
    try:
        # Through JSON text, not Python objects: in strict mode pydantic then reads lists as tuples and texts as enums.
        return model.model_validate_json(encoding.canonical(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ascii(".".join(str(step) for step in first["loc"]))[1:-1][:_PATH_CHARS_MAX]
        raise PeerError("E-FORMAT", f"{model.__name__}: {path or 'document'}: {first['msg']}") from None


def complete(*bases: type[BaseModel]) -> None:
    """Build every model below `bases` now: a command builds what it meets, but two threads of a server could meet one at once."""
    for base in bases:
        for model in base.__subclasses__():
            model.model_rebuild()
            complete(model)


class Statement(WireModel):
    """The base of signed documents; a subclass gives `payload_type` and its fields."""

    payload_type: ClassVar[str]
    v: Literal[1] = 1

    def payload(self) -> bytes:
        """Return the bytes that are signed."""
        return self.encode()

    @property
    def digest(self) -> Digest:
        """The SHA-256 of the payload: how other documents refer to this one."""
        return Digest.of(self.payload())

    def sign(self, key: SigningKey) -> Envelope:
        """Return a new envelope of this statement with the signature of `key`."""
        return sign(self.payload_type, self.payload(), key)

    @classmethod
    def open(cls, envelope: Envelope, keys: Keys, *, threshold: int = 1) -> Self:
        """Return the statement in `envelope` after `threshold` of `keys` are found to have signed it.

        Raises:
            IntegrityError: E-SIGNATURE as `envelope.verify` says.
            PeerError: E-FORMAT if type or payload is not exactly this statement's.
        """
        verify(envelope, payload_type=cls.payload_type, keys=keys, threshold=threshold)
        return cls.read_unverified(envelope)

    @classmethod
    def read_unverified(cls, envelope: Envelope) -> Self:
        """Return what `envelope` claims, for one purpose only: to learn whose keys `open` must be given.

        Raises:
            PeerError: E-FORMAT if type or payload is not exactly this statement's.
        """
        if envelope.payload_type != cls.payload_type:
            raise PeerError("E-FORMAT", f"payload type {ascii(envelope.payload_type)[:80]}, expected {cls.payload_type}")
        statement = parse_model(cls, envelope.payload, bytes_max=len(envelope.payload))
        if statement.payload() != envelope.payload:
            raise PeerError("E-FORMAT", f"the payload of this {cls.__name__} is not in canonical form")
        return statement
