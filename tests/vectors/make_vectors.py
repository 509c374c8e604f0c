"""Writes the vector files of docs/formats.md again; run as `python -m tests.vectors.make_vectors` after a format change only.

Everything is deterministic. A change in a written file is a change of format: bump the version it belongs to.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Iterable

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carnet.chunking import AVERAGES, ChunkSizes, cut
from carnet.identifiers import PassageId, SiteName, TransferId
from carnet.letter import Direction, Place, padded_length
from carnet.padding import padme
from tests.vectors.blocks import VECTORS, expand


def write(name: str, title: str, blocks: Iterable[dict[str, str]]) -> None:
    """Write one vector file."""
    text = "\n\n".join("\n".join(f"{key}: {value}" for key, value in block.items()) for block in blocks)
    (VECTORS / name).write_text(f"# {title}\n# Form and recipes: tests/vectors/blocks.py\n\n{text}\n", encoding="ascii")


def chunking_blocks() -> Iterable[dict[str, str]]:
    """Cuts of random, constant and short data."""
    recipes = {
        "random": "stream:carnet chunking:400000",
        "zeros": "repeat:300000:hex:00",
        "zeros then random": "repeat:20000:hex:00 + stream:carnet tail:150000",
        "random twice": "stream:carnet twice:120000 + stream:carnet twice:120000",
        "one byte": "hex:2a",
        "minimum": "stream:carnet minimum:4096",
    }
    for average in AVERAGES:
        for name, recipe in recipes.items():
            ends = cut(expand(recipe), ChunkSizes(average), final=True)
            yield {"name": f"{name} {average}", "average": str(average), "data": recipe, "ends": " ".join(map(str, ends))}


KEY = bytes(range(32)).hex()
NONCE = bytes(range(100, 112)).hex()
TEXT = "repeat:40:text:to be compressed, "


def container(name: str, payload: str, header: str = "43534547" + "0101" + NONCE, key: str = KEY, **more: str) -> dict[str, str]:
    """Return the block of a container that is described by its payload."""
    nonce, associated = bytes.fromhex(header)[6:], bytes.fromhex(header + more.get("context", ""))
    sealed = bytes.fromhex(header) + AESGCM(bytes.fromhex(key)).encrypt(nonce, expand(payload), associated)
    digest = hashlib.sha256(sealed).hexdigest()
    return {"name": name, "header": header, "key": key, "payload": payload, "sealed-sha256": digest, **more}


def payload_header(codec: int, raw_length: int, body_length: int) -> str:
    """Return the recipe of the nine bytes before a body."""
    return "hex:" + struct.pack(">BII", codec, raw_length, body_length).hex()


def segment_blocks() -> Iterable[dict[str, str]]:
    """Good segments and one bad one for each rule."""
    raw = expand(TEXT)
    frame = zstandard.ZstdCompressor(level=1).compress(raw)
    body = f"hex:{frame.hex()}"
    stored = f"{payload_header(0, 3, 3)} + text:abc"
    compressed = f"{payload_header(1, len(raw), len(frame))} + {body}"
    zeros = f"repeat:{65536 - 12}:hex:00"
    random = "stream:carnet segment:100000"
    yield container("stored", stored, raw="text:abc", expect="ok")
    yield container("zstd", _padded(compressed), raw=TEXT, expect="ok")
    yield container("only segment", f"{stored} + {zeros}", raw="text:abc", expect="ok")
    yield container("stored, padded", _padded(f"{payload_header(0, 100000, 100000)} + {random}"), raw=random, expect="ok")
    corrupt, malformed = {"expect": "E-SEGMENT-CORRUPT"}, {"expect": "E-FORMAT"}
    yield container("bit flipped in the ciphertext", stored, **corrupt, flip="150")
    yield container("bit flipped in the nonce", stored, **corrupt, flip="50")
    yield container("bit flipped in the tag", stored, **corrupt, flip="300")
    yield container("one byte missing", stored, **corrupt, cut="1")
    yield container("one byte more", stored, **corrupt, append="00")
    yield container("magic of an index page", stored, header="43494458" + "0101" + NONCE, **corrupt)
    yield container("unknown version", stored, header="43534547" + "0201" + NONCE, **corrupt)
    yield container("unknown suite", stored, header="43534547" + "0109" + NONCE, **corrupt)
    yield container("padding of no rule", f"{stored} + hex:00", **malformed)
    yield container("padding not zero", f"{stored} + repeat:{65536 - 13}:hex:00 + hex:01", **malformed)
    yield container("unknown codec", f"{payload_header(2, 3, 3)} + text:abc", **malformed)
    yield container("raw length not the body's", f"{payload_header(0, 4, 3)} + text:abc", **malformed)
    yield container("raw length zero", f"{payload_header(0, 0, 3)} + text:abc", **malformed)
    yield container("raw length above the limit", f"{payload_header(0, 1179649, 3)} + text:abc", **malformed)
    yield container("body beyond the payload", f"{payload_header(0, 3, 4)} + text:abc", **malformed)
    after = f"{payload_header(1, len(raw), len(frame) + 1)} + {body} + hex:00"
    yield container("byte after the frame", _padded(after), **malformed)
    skippable = f"{payload_header(1, len(raw), len(frame) + 8)} + {body} + hex:502a4d1800000000"
    yield container("skippable frame", _padded(skippable), **malformed)
    other = f"{payload_header(1, len(raw) + 1, len(frame))} + {body}"
    yield container("frame of another length", _padded(other), **malformed)


def index_records() -> dict[str, str]:
    """Return the records of a small index by name, each a hex recipe: two segments, one of them of a base, and three parts."""
    base = hashlib.sha256(b"packing list of the base").hexdigest()
    contents = {"artifact": b"manifest", "layer": b"layer"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    empty = hashlib.sha256(b"").hexdigest()
    table = (
        f'["application/json","sha256:{digests["artifact"]}",8,"artifact"],'
        f'["application/x-layer","sha256:{digests["layer"]}",50,"layer"],["application/x-layer","sha256:{empty}",0,"layer"]'
    )
    rows = sorted(table[1:-1].split("],["))
    closure = hashlib.sha256(("[[" + "],[".join(rows) + "]]").encode()).hexdigest()
    return {
        "head": "0101" + "00004000" + "11" * 32 + closure + "01" + base,
        "counts": "00000003" + "00000002" + "00000004" + "00000003",
        "artifact": "10" + b"application/json".hex() + digests["artifact"] + "0000000000000008" + "0100" + "00000001",
        "layer": "13" + b"application/x-layer".hex() + digests["layer"] + "0000000000000032" + "0500" + "00000002",
        "empty": "13" + b"application/x-layer".hex() + empty + "0000000000000000" + "0500" + "00000000",
        "new segment": "01" + "22" * 32 + "33" * 32 + "00000026" + "00" + "0002" + "44" * 32 + "000008" + "00001e",
        "base segment": "01" + "55" * 32 + "66" * 32 + "00000023" + "01" + "0002" + "77" * 32 + "00000f" + "000014",
        "extents": "00000000" + "0000" + "0001" + "00000000" + "0001" + "0001" + "00000001" + "0001" + "0001",
        "closure": "sha256:" + closure,
    }


def index_blocks() -> Iterable[dict[str, str]]:
    """A canonical index, and one for each rule that it could break."""
    good = index_records()
    closure = good.pop("closure")

    def block(name: str, expect: str = "E-INDEX", **changed: str) -> dict[str, str]:
        records = good | {key.replace("_", " "): value for key, value in changed.items()}
        return {"name": name, "records": "hex:" + "".join(records.values()), "expect": expect}

    def swap(record: str, old: str, new: str) -> dict[str, str]:
        if good[record].count(old) != 1:
            raise ValueError(f"{old} is not once in {record}")
        return {record.replace(" ", "_"): good[record].replace(old, new)}

    yield block("canonical", "ok") | {"closure": closure}
    yield block("unknown version", head="02" + good["head"][2:])
    yield block("unknown suite", head="0109" + good["head"][4:])
    yield block("chunk average of no rule", head="010100002000" + good["head"][12:])
    yield block("closure digest of other parts", head=good["head"].replace(closure[7:], "00" * 32))
    yield block("recipe", **swap("layer", "0500" + "00000002", "0501" + "00000002"))
    yield block("unknown role", **swap("layer", "0500" + "00000002", "0900" + "00000002"))
    yield block("size not the sum of the extents", **swap("layer", "0000000000000032", "0000000000000033"))
    yield block("base segment first", new_segment=good["base segment"], base_segment=good["new segment"])
    yield block("base of no number", **swap("base segment", "00000023" + "01", "00000023" + "02"))
    yield block("raw length not the sum of the chunks", **swap("base segment", "00000023", "00000024"))
    yield block("chunk of no bytes", **swap("base segment", "00000f" + "000014", "000000" + "000023"))
    yield block("id of another suite", new_segment="02" + good["new segment"][2:])
    yield block("chunk that no part uses", extents=good["extents"].replace("0000000000010001", "0000000000000001", 1))
    yield block("extent beyond its segment", extents=good["extents"][:-8] + "00010002")
    merged = swap("layer", "00000002", "00000003") | {"counts": good["counts"][:-8] + "00000004"}
    split = (
        "00000000" + "0000" + "0001" + "00000000" + "0001" + "0001" + "00000001" + "0000" + "0001" + "00000001" + "0001" + "0001"
    )
    yield block("adjacent extents not merged", extents=split, **merged)
    yield block("byte after the last record", extents=good["extents"] + "00")
    yield block("last record cut", extents=good["extents"][:-2])
    yield block("more chunks than the head says", counts="00000003" + "00000002" + "00000003" + "00000003")


def page_blocks() -> Iterable[dict[str, str]]:
    """One page, number 3 and the last."""
    artifact_key, transfer, closure = bytes(range(32, 64)), bytes(range(16)).hex(), "ab" * 32
    info = b"carnet/v1\0index-page\0\x01" + bytes.fromhex(transfer) + struct.pack(">I", 3)
    key = hmac.digest(artifact_key, info + b"\x01", "sha256")  # the first block of HKDF-Expand
    header, context = "43494458" + "0101" + NONCE, transfer + closure + "00000003" + "01"
    payload = _padded(f"{payload_header(0, 7, 7)} + text:records")
    block = container("page 3, the last", payload, header=header, key=key.hex(), context=context, raw="text:records")
    yield block | {"artifact-key": artifact_key.hex(), "transfer": transfer, "closure": "sha256:" + closure, "expect": "ok"}


def recall_blocks() -> Iterable[dict[str, str]]:
    """A recall, and one bad one for each rule; each signed, so that only what it says is wrong."""
    good = {
        "artifact": "sha256:" + "a1" * 32,
        "at": "2026-11-24T12:00:00Z",
        "by": "spiffe://acme.example/site/us/agent/build-1",
        "cause": "recalled",
        "packing": "sha256:" + "b2" * 32,
        "reason": "built from the wrong branch",
        "site": "us",
        "tell": ["eu", "sg"],
        "transfer": "0123456789abcdef" * 2,
        "v": 1,
        "waybill": "sha256:" + "c3" * 32,
    }
    changes: dict[str, dict[str, object]] = {
        "by the site itself, nobody to tell": {"by": "spiffe://acme.example/site/us/gateway/us", "cause": "expired", "tell": []},
        "unknown cause": {"cause": "regretted"},
        "on behalf of another site's agent": {"by": "spiffe://acme.example/site/eu/agent/build-1"},
        "a site that tells itself": {"tell": ["eu", "us"]},
        "a site told twice": {"tell": ["eu", "eu"]},
        "no reason": {"reason": ""},
        "a control character in the reason": {"reason": "wrong\nbranch"},
        "unknown member": {"zone": "b"},
        "another version": {"v": 2},
    }
    yield _signed("recall", good) | {"expect": "ok"}
    for name, change in changes.items():
        yield _signed(name, good | change) | {"expect": "ok" if name.startswith("by the site") else "E-FORMAT"}
    yield _signed("spaces", good, separators=(", ", ": ")) | {"expect": "E-FORMAT"}
    yield _signed("another key", good, seed=bytes(range(1, 33))) | {"expect": "E-SIGNATURE"}


def _signed(
    name: str, document: dict[str, object], *, separators: tuple[str, str] = (",", ":"), seed: bytes = bytes(range(32))
) -> dict[str, str]:
    """Return the block of a recall signed under `seed`; the key that verifies is always that of bytes 0 to 31."""
    payload = json.dumps(document, sort_keys=True, separators=separators)
    kind = "application/vnd.carnet.recall.v1+json"
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(
        f"DSSEv1 {len(kind)} {kind} {len(payload)} {payload}".encode("ascii")
    )
    digest = "sha256:" + hashlib.sha256(payload.encode("ascii")).hexdigest()
    return {"name": name, "payload": payload, "digest": digest, "signature": signature.hex()}


def _padded(payload: str) -> str:
    """Return the recipe with zeros to its Padme length."""
    missing = padme(len(expand(payload))) - len(expand(payload))
    return f"{payload} + repeat:{missing}:hex:00" if missing else payload


def letter_blocks() -> Iterable[dict[str, str]]:
    """What letters are bound to, and how long their plaintext is."""
    ends = {"onward": ("us", "eu"), "back": ("eu", "us")}
    for number, (direction, (sender, recipient)) in enumerate(ends.items()):
        place = Place(
            transfer=TransferId("0123456789abcdef" * 2),
            passage=PassageId("fedcba9876543210" * 2),
            sender=SiteName(sender),
            recipient=SiteName(recipient),
            direction=Direction(direction),
            number=number,
        )
        yield {"name": f"info {direction}", "direction": direction, "number": str(number), "info": place.info(1, KEY).hex()}
    for length in (0, 4_096, 4_097, 1_000_000):
        yield {"name": f"length {length}", "length": str(length), "padded": str(padded_length(length))}


def main() -> None:
    """Write every file."""
    write("chunking.txt", "End offsets of the chunks of `data`, all of it given at once", chunking_blocks())
    write("segment.txt", "Containers, and what opening them as segments of suite 1 gives", segment_blocks())
    write(
        "letter.txt",
        "The info of letters of suite 1 between us and eu for the key with digest 00..1f, and padded lengths",
        letter_blocks(),
    )
    write("index.txt", "The records of an index of one page, and what reading them as suite 1 gives", index_blocks())
    write("recall.txt", "Recalls signed with Ed25519, and what opening them under the key of seed 00..1f gives", recall_blocks())
    write("index-page.txt", "A sealed index page of suite 1", page_blocks())


if __name__ == "__main__":
    main()
