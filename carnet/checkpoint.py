"""The checkpoint: a log's signed head, as C2SP tlog-checkpoint writes it.

Size and root are what a site vouches for: every entry before is fixed by them. No extension lines: monitors cannot audit them.

Rules:      1. three lines, nothing more  2. size is decimal without leading zeros  3. the log signs under its origin as key name
            4. a size of zero has the root of the empty tree
Layout:     origin LF | size LF | base64(root[32]) LF, in a signed note
Spec:       docs/statements.md section "Log"; c2sp.org/tlog-checkpoint
Example:    >>> Checkpoint("acme.example/site/eu/log", 0, EMPTY_ROOT).text().splitlines()[1]
            '0'
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from carnet.encoding import decode_base64, encode_base64
from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import SiteName
from carnet.keys import SigningKey, VerifyingKey
from carnet.merkle import EMPTY_ROOT, HASH_BYTES, SIZE_MAX
from carnet.notes import Note, NoteKey, parse_note, sign_note, verify_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the log `origin`: `size` entries under `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text that is signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def log_origin(trust_domain: str, site: SiteName) -> str:
    """Return the origin of a site's log, which is also its key name."""
    return f"{trust_domain}/site/{site}/log"


def log_key(trust_domain: str, site: SiteName, key: VerifyingKey) -> NoteKey:
    """Return the note key under which a site signs its checkpoints."""
    return NoteKey(log_origin(trust_domain, site), key)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> Note:
    """Return the note in which the log signs its head."""
    return sign_note(checkpoint.text(), checkpoint.origin, key)


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a note's text holds; raise `PeerError` E-FORMAT if it breaks rules 1, 2 or 4."""
    lines = text.split("\n")
    if len(lines) != _LINES + 1 or lines[-1] or not lines[0]:
        raise PeerError("E-FORMAT", "a checkpoint is origin, size and root, each on its line")
    if _SIZE.fullmatch(lines[1]) is None or int(lines[1]) > SIZE_MAX:
        raise PeerError("E-FORMAT", f"not a tree size: {ascii(lines[1])[:40]}")
    root = decode_base64(lines[2])
    checkpoint = Checkpoint(lines[0], int(lines[1]), root)
    if len(root) != HASH_BYTES or (checkpoint.size == 0 and root != EMPTY_ROOT):
        raise PeerError("E-FORMAT", f"not the root of a tree of {checkpoint.size}: {len(root)} bytes")
    return checkpoint


def open_checkpoint(source: bytes | Note, *, origin: str, key: VerifyingKey) -> Checkpoint:
    """Return the checkpoint in `source` once the log `origin` is found to have signed it with `key`.

    Raises:
        PeerError: E-FORMAT. IntegrityError: E-SIGNATURE, or E-PROOF if it is another log's.
    """
    note = parse_note(source) if isinstance(source, bytes) else source
    verify_note(note, [NoteKey(origin, key)])
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise IntegrityError("E-PROOF", f"checkpoint of log {ascii(checkpoint.origin)[:80]}, expected {origin}")
    return checkpoint


def signers(note: Note, keys: Iterable[NoteKey]) -> tuple[NoteKey, ...]:
    """Return those of `keys` that signed `note`, perhaps none; raise `IntegrityError` E-SIGNATURE for a bad one of theirs."""
    known = [key for key in keys if any((one.name, one.key_id) == (key.name, key.key_id) for one in note.signatures)]
    return verify_note(note, known) if known else ()
