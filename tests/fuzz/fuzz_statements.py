"""Fuzz targets of what is signed and logged: envelopes, statements, segment lists, key files, notes, tiles, entries, proofs.

Run for longer with `python -m tests.fuzz.fuzz_statements SECONDS [SEED]`.
"""

import sys
from collections.abc import Callable

from carnet.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from carnet.encoding import canonical, parse_json
from carnet.entries import EntryType, LogEvent, commit_event, parse_entry
from carnet.envelope import Envelope, parse_envelope, verify
from carnet.keys import encode_private_key, encode_public_key, parse_private_key, parse_public_key
from carnet.letter import Direction, Letter, LetterKind, Place, open_letter, seal_letter
from carnet.merkle import root_of
from carnet.notes import NoteKey, parse_note, parse_vkey
from carnet.packing import SegmentList
from carnet.proof import EntryProof, encode_tlog_proof, parse_tlog_proof, verify_entry_proof
from carnet.release import KeyRelease, make_release, open_release, site_recipient
from carnet.statement import Statement, parse_model
from carnet.tiles import decode_entries, encode_entries, parse_tile_path
from carnet.trust import SiteCard
from tests.carnet import samples
from tests.fuzz.drive import Target, drive

KEY = samples.signing_key(1)
ORIGIN = "acme.example/site/eu/log"
RECIPIENT = site_recipient(samples.DOMAIN, samples.EU)
EVENT = LogEvent(EntryType.DECISION_OFFER, samples.AT, {"outcome": "allow", "parts": [1, None]})
COMMITTED = commit_event(EVENT, lambda: b"\1" * 32)
PLACE = Place(
    transfer=samples.TRANSFER,
    passage=samples.PASSAGE,
    sender=samples.US,
    recipient=samples.EU,
    direction=Direction.ONWARD,
    number=3,
)
LETTER = Letter.at(PLACE, LetterKind.COMMIT, b"{}")
STATEMENTS: list[Statement] = [
    samples.waybill(),
    samples.packing_list(),
    samples.decision(),
    samples.approval(),
    samples.receipt(),
    samples.deleted_receipt(),
    samples.recall(),
    samples.bundle(),
    samples.kem_statement(),
    samples.agent_statement(),
    samples.slip(),
    LETTER,
]


def json_value(data: bytes) -> None:
    """What is read has one canonical form, and reading that changes nothing."""
    once = canonical(parse_json(data, bytes_max=9_999))
    assert canonical(parse_json(once, bytes_max=9_999)) == once


def envelope(data: bytes) -> None:
    """Whatever verifies is what was signed."""
    found = parse_envelope(data)
    verify(found, payload_type=STATEMENTS[0].payload_type, keys=[KEY.public])
    assert found.payload == STATEMENTS[0].payload()


def statement_reader(kind: type[Statement]) -> Callable[[bytes], None]:
    """A payload that is accepted is the canonical one of what was read."""

    def read(data: bytes) -> None:
        assert kind.read_unverified(Envelope(kind.payload_type, data, ())).payload() == data

    return read


def segment_list(data: bytes) -> None:
    """A list that is accepted encodes back alike."""
    parsed = SegmentList.parse(data)
    assert SegmentList.of(parsed) == parsed


def key_release(data: bytes) -> None:
    """A release that opens gives the committed key."""
    release = parse_model(KeyRelease, data, bytes_max=9_999)
    assert open_release(release, samples.packing_list(), samples.kem_key(1), recipient=RECIPIENT) == samples.ARTIFACT_KEY


def private_key_line(data: bytes) -> None:
    """A key file that is accepted has one spelling, but for the final newline."""
    text = data.decode("utf-8", "replace")
    assert encode_private_key(parse_private_key(text)) == text.removesuffix("\n") + "\n"


def public_key_line(data: bytes) -> None:
    """The same for public keys."""
    text = data.decode("utf-8", "replace")
    assert encode_public_key(parse_public_key(text)) == text.removesuffix("\n") + "\n"


def note(data: bytes) -> None:
    """A note that is accepted encodes back alike."""
    assert parse_note(data).encode() == data


def vkey(data: bytes) -> None:
    """A vkey that is accepted has one spelling."""
    text = data.decode("utf-8", "replace")
    assert parse_vkey(text).format() == text


def checkpoint(data: bytes) -> None:
    """A checkpoint's text that is accepted has one spelling; a signed one is the one that was signed."""
    text = data.decode("utf-8", "replace")
    if "\u2014" in text:
        assert open_checkpoint(data, origin=ORIGIN, key=KEY.public).size == 1
    else:
        assert parse_checkpoint(text).text() == text


def tile_path(data: bytes) -> None:
    """A path that is accepted has one spelling and stays below the prefix."""
    text = data.decode("utf-8", "replace")
    assert parse_tile_path(text).path() == text
    assert ".." not in text


def entry_bundle(data: bytes) -> None:
    """A bundle that is accepted encodes back alike."""
    assert encode_entries(decode_entries(data[1:], data[0] if data else 1)) == data[1:]


def log_entry(data: bytes) -> None:
    """An entry that is accepted encodes back alike."""
    assert parse_entry(data).encode() == data


def entry_proof(data: bytes) -> None:
    """A proof that verifies proves what was logged, in either form."""
    proof = parse_tlog_proof(data) if data.startswith(b"c2sp") else parse_model(EntryProof, data, bytes_max=99_999)
    verified = verify_entry_proof(proof, log_origin=ORIGIN, key=KEY.public)
    assert verified.entry == parse_entry(COMMITTED.entry)
    assert canonical(dict(verified.values)) in (canonical(dict(EVENT.fields)), canonical({}))


def sealed_letter(data: bytes) -> None:
    """A letter that opens is the one that was written for its place."""
    assert open_letter(data, PLACE, key=lambda _number: samples.kem_key(1), writer=KEY.public) == LETTER


def site_card(data: bytes) -> None:
    """A card that is accepted gives a bundle entry."""
    parse_model(SiteCard, data, bytes_max=99_999).site()


def targets() -> list[Target]:
    """Return every target with its seeds."""
    head = Checkpoint(ORIGIN, 1, root_of([COMMITTED.leaf_hash]))
    signed = sign_checkpoint(head, KEY).encode()
    proof = EntryProof.make(COMMITTED, 0, [], signed)
    card = {"v": 1, "trust_domain": samples.DOMAIN, **samples.site(samples.EU).to_json()}
    release = make_release(
        samples.packing_list(), samples.ARTIFACT_KEY, recipient=RECIPIENT, key_number=1, public=samples.kem_key(1).public
    )
    keys = [samples.signing_key(1), samples.kem_key(1)]
    return [
        Target("json", json_value, [samples.waybill().payload(), b'{"a":[1,null,"\\u00e9"]}']),
        Target("envelope", envelope, [STATEMENTS[0].sign(KEY).encode()]),
        *(
            Target(kind.__name__, statement_reader(kind), [one.payload() for one in STATEMENTS if type(one) is kind])
            for kind in dict.fromkeys(map(type, STATEMENTS))
        ),
        Target("segment list", segment_list, [samples.segment_list().encode()]),
        Target("key release", key_release, [release.encode()]),
        Target("private key line", private_key_line, [encode_private_key(key).encode() for key in keys]),
        Target("public key line", public_key_line, [encode_public_key(key.public).encode() for key in keys]),
        Target("note", note, [signed]),
        Target("vkey", vkey, [NoteKey(ORIGIN, KEY.public).format().encode()]),
        Target("checkpoint", checkpoint, [head.text().encode(), signed]),
        Target("tile path", tile_path, [b"tile/0/x001/x234/067.p/112", b"tile/entries/000"]),
        Target("entry bundle", entry_bundle, [b"\2" + encode_entries([b"one", b"two"])]),
        Target("log entry", log_entry, [COMMITTED.entry]),
        Target("entry proof", entry_proof, [proof.encode(), encode_tlog_proof(proof)]),
        Target("sealed letter", sealed_letter, [seal_letter(LETTER, KEY, number=1, public=samples.kem_key(1).public)]),
        Target("site card", site_card, [canonical(card)]),
    ]


def main(seconds: float, seed: int) -> None:
    """Run every target for `seconds`."""
    for target in targets():
        print(f"{target.name}: {drive(target, seed=seed, seconds=seconds)} inputs, seed {seed}, no finding")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
