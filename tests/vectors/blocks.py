"""Reads vector files: blocks of `key: value` lines separated by empty lines, `#` starts a comment line.

A value that is too long to print is written as a recipe, so that any language can expand it:
`hex:<digits>`, `text:<ascii>`, `repeat:<count>:<recipe>` and `stream:<seed>:<length>` (SHA-256(seed || u32 counter), counter from
0, concatenated and cut to length), joined by ` + `.
"""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = Path(__file__).parent


def read_blocks(name: str) -> list[dict[str, str]]:
    """Return the blocks of one file, in order."""
    blocks: list[dict[str, str]] = []
    for paragraph in (VECTORS / name).read_text(encoding="ascii").split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if lines:
            blocks.append(dict(line.split(": ", 1) for line in lines))
    return blocks


def stream(seed: str, length: int) -> bytes:
    """Return `length` bytes that any language can make again from `seed`."""
    pieces = (hashlib.sha256(seed.encode() + i.to_bytes(4, "big")).digest() for i in range(length // 32 + 1))
    return b"".join(pieces)[:length]


def expand(recipe: str) -> bytes:
    """Return the bytes that a recipe stands for."""
    return b"".join(map(_expand_one, recipe.split(" + ")))


def _expand_one(recipe: str) -> bytes:
    kind, rest = recipe.split(":", 1)
    if kind == "hex":
        return bytes.fromhex(rest)
    if kind == "text":
        return rest.encode("ascii")
    if kind == "repeat":
        count, inner = rest.split(":", 1)
        return int(count) * _expand_one(inner)
    if kind == "stream":
        seed, length = rest.rsplit(":", 1)
        return stream(seed, int(length))
    raise ValueError(f"unknown recipe {kind}")


def segment_of(block: dict[str, str]) -> bytes:
    """Return the sealed container a block describes, after the damage it asks for.

    `header` (18 bytes, its last 12 the nonce), `payload`, `key`, and `context` if any, make the container; `sealed-sha256` is its
    hash before damage. `flip` is the number of a bit to flip, `cut` a number of bytes to drop, `append` bytes to add.
    """
    header = bytes.fromhex(block["header"])
    context = bytes.fromhex(block.get("context", ""))
    sealed = header + AESGCM(bytes.fromhex(block["key"])).encrypt(header[6:], expand(block["payload"]), header + context)
    if hashlib.sha256(sealed).hexdigest() != block.get("sealed-sha256"):
        raise ValueError(f"vector {block['name']} does not make the container it names")
    return damage(block, sealed)


def damage(block: dict[str, str], sealed: bytes) -> bytes:
    """Return `sealed` changed as a block asks."""
    changed = bytearray(sealed)
    if "flip" in block:
        changed[int(block["flip"]) // 8] ^= 1 << int(block["flip"]) % 8
    if "cut" in block:
        del changed[-int(block["cut"]) :]
    return bytes(changed + bytes.fromhex(block.get("append", "")))
