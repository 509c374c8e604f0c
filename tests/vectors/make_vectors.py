"""Writes the vector files of docs/formats.md again; run as `python -m tests.vectors.make_vectors` after a format change only.

Everything is deterministic. A change in a written file is a change of format: bump the version it belongs to.
"""

import hashlib
import struct
from collections.abc import Iterable

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carnet.chunking import AVERAGES, ChunkSizes, cut
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


def container(name: str, payload: str, header: str = "43534547" + "0101" + NONCE, **more: str) -> dict[str, str]:
    """Return the block of a container that is described by its payload."""
    nonce, associated = bytes.fromhex(header)[6:], bytes.fromhex(header + more.get("context", ""))
    sealed = bytes.fromhex(header) + AESGCM(bytes.fromhex(KEY)).encrypt(nonce, expand(payload), associated)
    digest = hashlib.sha256(sealed).hexdigest()
    return {"name": name, "header": header, "key": KEY, "payload": payload, "sealed-sha256": digest, **more}


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


def _padded(payload: str) -> str:
    """Return the recipe with zeros to its Padme length."""
    missing = padme(len(expand(payload))) - len(expand(payload))
    return f"{payload} + repeat:{missing}:hex:00" if missing else payload


def main() -> None:
    """Write every file."""
    write("chunking.txt", "End offsets of the chunks of `data`, all of it given at once", chunking_blocks())
    write("segment.txt", "Containers, and what opening them as segments of suite 1 gives", segment_blocks())


if __name__ == "__main__":
    main()
