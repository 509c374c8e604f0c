"""The Merkle tree of the log: RFC 6962 hashing, append with a small state, proofs from stored nodes, strict verification.

Nothing here stores a tree. Appending keeps the roots of the full subtrees on the right edge; proofs read full subtrees through a
function, so that tiles, a table or a list can serve them. `root_of` computes a root a second way, from nothing but leaves: a
sequencer compares both before it signs, since one flipped bit under a signature ends a log.

Rules:      1. leaf = SHA-256(00 || entry), node = SHA-256(01 || left || right), empty tree = SHA-256("")
            2. a hash is 32 bytes or refused  3. index < size and old size > 0, or there is no proof
            4. a proof has exactly the hashes it needs
Layout:     node (level, index) is the root of leaves [index << level, (index + 1) << level)
Spec:       docs/statements.md section "Log"; RFC 6962 section 2.1; RFC 9162 sections 2.1.3.2 and 2.1.4.2
Example:    >>> FrontierTree().root().hex()[:16]
            'e3b0c44298fc1c14'
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from carnet.errors import IntegrityError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
SIZE_MAX: Final = 2**53 - 1
"""Largest tree; a size is a JSON integer elsewhere."""

ReadNode: TypeAlias = Callable[[int, int], bytes]
"""Returns the hash of the full subtree at (level, index); raises if it is not stored."""


@dataclass(frozen=True, slots=True)
class Node:
    """The root of a full subtree: `level` 0 is a leaf, `index` counts within the level."""

    level: int
    index: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash under which `entry` is in the tree."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two siblings' parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class FrontierTree:
    """An append-only tree of `size` leaves, held as the roots of its full subtrees, largest first: O(log size) memory.

    Not safe for concurrent use; the log's one writer owns it. `state` and `size` rebuild it after a restart.
    """

    __slots__ = ("_frontier", "size")

    def __init__(self, size: int = 0, state: Iterable[bytes] = ()) -> None:
        """Resume a tree of `size` leaves; raise `IntegrityError` E-LOG if `state` cannot be its frontier."""
        self.size = size
        self._frontier = [bytes(one) for one in state]
        if not 0 <= size <= SIZE_MAX or len(self._frontier) != size.bit_count():
            raise IntegrityError("E-LOG", f"{len(self._frontier)} hashes are no frontier of a tree of {size}")
        _check_hashes(self._frontier, "E-LOG")

    @property
    def state(self) -> tuple[bytes, ...]:
        """The frontier: one hash for each bit set in `size`, the highest bit first."""
        return tuple(self._frontier)

    def append(self, leaf: bytes) -> tuple[Node, ...]:
        """Add the leaf hash `leaf`; return the nodes that became full: the leaf itself, then its parents upwards."""
        _check_hashes((leaf,), "E-LOG")
        index, level = self.size, 0
        completed = [Node(0, index, leaf)]
        while index & 1:
            leaf, index, level = node_hash(self._frontier.pop(), leaf), index >> 1, level + 1
            completed.append(Node(level, index, leaf))
        self._frontier.append(leaf)
        self.size += 1
        return tuple(completed)

    def root(self) -> bytes:
        """Return the root hash of the tree as it is now."""
        if not self._frontier:
            return EMPTY_ROOT
        root = self._frontier[-1]
        for left in reversed(self._frontier[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> "FrontierTree":
        """Return an independent tree in the same state, to try an append without keeping it."""
        return FrontierTree(self.size, self._frontier)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes by the recursion of RFC 6962 section 2.1; shares no code with `FrontierTree`."""
    if len(leaves) == 0:
        return hashlib.sha256(b"").digest()

    def tree_hash(start: int, end: int) -> bytes:
        if end - start == 1:
            return leaves[start]
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        return hashlib.sha256(b"\x01" + tree_hash(start, middle) + tree_hash(middle, end)).digest()

    return tree_hash(0, len(leaves))


def range_hash(start: int, end: int, read: ReadNode) -> bytes:
    """Return the hash of leaves [start, end), a subtree as RFC 6962 splits one; reads only full subtrees."""
    count = end - start
    if count & (count - 1) == 0 and start % count == 0:
        level = count.bit_length() - 1
        return read(level, start >> level)
    middle = start + _split(count)
    return node_hash(range_hash(start, middle, read), range_hash(middle, end, read))


def tree_root(size: int, read: ReadNode) -> bytes:
    """Return the root of the first `size` leaves."""
    return EMPTY_ROOT if size == 0 else range_hash(0, size, read)


def prove_inclusion(index: int, size: int, read: ReadNode) -> tuple[bytes, ...]:
    """Return the proof that leaf `index` is in the tree of `size`, leaf's sibling first; raise `ValueError` outside rule 3."""
    if not 0 <= index < size <= SIZE_MAX:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_hash(middle, end, read))
            end = middle
        else:
            path.append(range_hash(start, middle, read))
            start = middle
    return tuple(reversed(path))


def prove_consistency(old_size: int, new_size: int, read: ReadNode) -> tuple[bytes, ...]:
    """Return the proof that the tree of `old_size` is a prefix of that of `new_size`; raise `ValueError` outside rule 3."""
    if not 0 < old_size <= new_size <= SIZE_MAX:
        raise ValueError(f"no consistency proof from {old_size} to {new_size}")
    path: list[bytes] = []
    start, end = 0, new_size
    # RFC 6962 section 2.1.2: walk to the old tree's last subtree; it is left out if it is the old root, which both sides know.
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(range_hash(middle, end, read))
            end = middle
        else:
            path.append(range_hash(start, middle, read))
            start = middle
    if start:
        path.append(range_hash(start, end, read))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if `proof` shows that the leaf hash `leaf` is at `index` of the tree of `size` with `root`.

    Raises:
        IntegrityError: E-PROOF otherwise; rules 2 to 4 included.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise IntegrityError("E-PROOF", f"no leaf {index} in a tree of {size}")
    _check_hashes((leaf, root, *proof), "E-PROOF")
    number, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise IntegrityError("E-PROOF", f"inclusion proof of {len(proof)} hashes is too long for leaf {index} of {size}")
        if number & 1 or number == last:
            computed = node_hash(sibling, computed)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        number, last = number >> 1, last >> 1
    if last != 0 or not hmac.compare_digest(computed, root):
        raise IntegrityError("E-PROOF", f"inclusion proof for leaf {index} of {size} does not lead to the root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Return if `proof` shows that the tree of `old_size` with `old_root` is a prefix of that of `new_size` with `new_root`.

    Raises:
        IntegrityError: E-PROOF otherwise; rules 2 to 4 included. An old size of 0 proves nothing and is refused.
    """
    if not 0 < old_size <= new_size <= SIZE_MAX:
        raise IntegrityError("E-PROOF", f"no consistency proof from {old_size} to {new_size}")
    _check_hashes((old_root, new_root, *proof), "E-PROOF")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise IntegrityError("E-PROOF", f"two trees of size {old_size} differ, or the proof has hashes too many")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise IntegrityError("E-PROOF", f"consistency proof from {old_size} to {new_size} is empty")
    found = _fold_consistency(old_size, new_size, path)
    if found != (old_root, new_root):
        raise IntegrityError("E-PROOF", f"consistency proof from {old_size} to {new_size} does not lead to both roots")


def _fold_consistency(old_size: int, new_size: int, path: list[bytes]) -> tuple[bytes, bytes]:
    """Return the old and the new root that `path` leads to (RFC 9162 section 2.1.4.2, steps 3 to 6)."""
    number, last = old_size - 1, new_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            raise IntegrityError("E-PROOF", f"consistency proof from {old_size} to {new_size} has hashes too many")
        if number & 1 or number == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, step)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise IntegrityError("E-PROOF", f"consistency proof from {old_size} to {new_size} has hashes too few")
    return old, new


def _split(count: int) -> int:
    """Return the largest power of two below `count` (at least 2): the size of the left subtree."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_hashes(hashes: Iterable[bytes], code: str) -> None:
    for one in hashes:
        if len(one) != HASH_BYTES:
            raise IntegrityError(code, f"a hash of {len(one)} bytes, expected {HASH_BYTES}")
