"""The closure of an artifact: its manifests, their blobs, and what refers to them, each once and with one role.

The walk asks its caller for the bytes of a manifest and for the referrers of a digest; where they are kept is not its affair.
The agent walks a layout before it sends; a receiver walks what came and compares.

Rules:      1. each digest appears once, with the first role of `Role`'s order that it has and the media type it has there (of
            several the least), so that every walk of the same documents gives the same closure  2. one digest has one size
            3. depth, number and bytes of manifests, and the number of parts, are bounded  4. manifests come before blobs, the
            root first
Spec:       docs/artifacts.md section "Closures"; OCI image-spec 1.1 (subject)
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from carnet.errors import CapacityError, PeerError
from carnet.identifiers import Digest
from carnet.limits import (
    CLOSURE_MANIFEST_BYTES_MAX,
    CLOSURE_REFERENCES_MAX,
    INDEX_DEPTH_MAX,
    MANIFEST_BYTES_MAX,
    MANIFESTS_MAX,
    PARTS_MAX,
)
from carnet.oci import Descriptor, Document, ImageIndex, Role, parse_manifest


@dataclass(frozen=True, slots=True)
class ClosurePart:
    """One part of a closure: what points to it, and its role."""

    descriptor: Descriptor
    role: Role


@dataclass(frozen=True, slots=True)
class Closure:
    """A whole closure, in reading order, and what its root says."""

    root: Document
    parts: tuple[ClosurePart, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        return sum(part.descriptor.size for part in self.parts)


_RANKS = {role: rank for rank, role in enumerate(Role)}

ReadManifest = Callable[[Descriptor], bytes]
FindReferrers = Callable[[Digest], Iterable[Descriptor]]


def walk_closure(root: Descriptor, read: ReadManifest, referrers: FindReferrers) -> Closure:
    """Return the closure of `root`.

    `read` returns the bytes of a manifest, at most the descriptor's size; their digest is checked here. `referrers` returns the
    manifests whose `subject` is the digest. Raises `PeerError` E-FORMAT for a malformed document, a wrong digest or size, or a
    digest with two sizes; `CapacityError` E-LIMIT where rule 3 is broken; whatever `read` raises.
    """
    walk = _Walk(read, referrers)
    walk.add_tree(root, Role.ARTIFACT)
    walk.add_referrers()
    walk.add_blobs()
    return Closure(walk.documents[root.digest], tuple(walk.parts.values()))


class _Walk:
    """The state of one walk; used once."""

    def __init__(self, read: ReadManifest, referrers: FindReferrers) -> None:
        self.parts: dict[Digest, ClosurePart] = {}
        self.documents: dict[Digest, Document] = {}
        self._read = read
        self._find_referrers = referrers
        self._manifest_bytes = 0
        self._references = 0
        self._of_referrers: set[Digest] = set()
        self._other: list[tuple[Descriptor, Role]] = []

    def add_tree(self, root: Descriptor, role: Role) -> None:
        """Add a manifest and, for an image index, what it lists, nearest first."""
        is_referrer = role is Role.REFERRER
        pending = deque([(root, role, 0)])
        while pending:
            descriptor, its_role, depth = pending.popleft()
            if depth > INDEX_DEPTH_MAX:
                raise CapacityError("E-LIMIT", f"image indexes nested deeper than {INDEX_DEPTH_MAX}", limit="INDEX_DEPTH_MAX")
            if not self._add(descriptor, its_role):
                continue
            document = self._load(descriptor)
            self.documents[descriptor.digest] = document
            if is_referrer:
                self._of_referrers.add(descriptor.digest)
            if isinstance(document, ImageIndex):
                # An image index may list what is no manifest (build caches do): it moves, as a blob.
                self._other.extend((child, Role.BLOB) for child in document.manifests if not child.is_manifest)
                pending.extend((child, Role.MANIFEST, depth + 1) for child in document.manifests if child.is_manifest)

    def add_referrers(self) -> None:
        """Add what refers to any manifest in the closure, and what refers to that, until nothing is new."""
        pending = deque(self.documents)
        while pending:
            for descriptor in self._find_referrers(pending.popleft()):
                known = len(self.documents)
                self.add_tree(descriptor, Role.REFERRER)
                pending.extend(list(self.documents)[known:])

    def add_blobs(self) -> None:
        """Add configs and layers, all configs first: they are small, and inspectors want them early."""
        configs: list[tuple[Descriptor, Role]] = []
        layers: list[tuple[Descriptor, Role]] = []
        aside: list[tuple[Descriptor, Role]] = []
        for digest, document in self.documents.items():
            if isinstance(document, ImageIndex):
                continue
            if digest in self._of_referrers:
                aside.extend((blob, Role.BLOB) for blob in (document.config, *document.layers))
            else:
                configs.append((document.config, Role.CONFIG))
                layers.extend((layer, Role.LAYER) for layer in document.layers)
        for descriptor, role in (*configs, *layers, *aside, *self._other):
            self._add(descriptor, role)

    def _add(self, descriptor: Descriptor, role: Role) -> bool:
        """Add one part; say whether it is new."""
        known = self.parts.get(descriptor.digest)
        if known is not None:
            self._reconcile(known, ClosurePart(descriptor, role))
            return False
        if len(self.parts) >= PARTS_MAX:
            raise CapacityError("E-LIMIT", f"more than {PARTS_MAX} parts in one artifact", limit="PARTS_MAX")
        self.parts[descriptor.digest] = ClosurePart(descriptor, role)
        return True

    def _reconcile(self, known: ClosurePart, again: ClosurePart) -> None:
        """Settle what a digest is that was met before (rule 1), whatever the order of the meetings."""
        old, new = known.descriptor, again.descriptor
        if old.size != new.size:
            raise PeerError("E-FORMAT", f"{new.digest} is said to have two sizes, {old.size} and {new.size} bytes")
        if old.is_manifest and new.is_manifest and old.media_type != new.media_type:
            raise PeerError("E-FORMAT", f"{new.digest} is said to be two documents, {old.media_type} and {new.media_type}")
        if (_RANKS[again.role], new.media_type) < (_RANKS[known.role], old.media_type):
            self.parts[new.digest] = again

    def _load(self, descriptor: Descriptor) -> Document:
        if len(self.documents) >= MANIFESTS_MAX:
            raise CapacityError("E-LIMIT", f"more than {MANIFESTS_MAX} manifests in one artifact", limit="MANIFESTS_MAX")
        if descriptor.size > MANIFEST_BYTES_MAX:
            problem = f"manifest {descriptor.digest} of {descriptor.size} bytes, at most {MANIFEST_BYTES_MAX} are read"
            raise CapacityError("E-LIMIT", problem, limit="MANIFEST_BYTES_MAX")
        self._manifest_bytes += descriptor.size
        if self._manifest_bytes > CLOSURE_MANIFEST_BYTES_MAX:
            problem = f"manifests of more than {CLOSURE_MANIFEST_BYTES_MAX} bytes in one artifact"
            raise CapacityError("E-LIMIT", problem, limit="CLOSURE_MANIFEST_BYTES_MAX")
        data = self._read(descriptor)
        if len(data) != descriptor.size or Digest.of(data) != descriptor.digest:
            raise PeerError("E-FORMAT", f"manifest {descriptor.digest} has other bytes than its digest says")
        try:
            document = parse_manifest(data, descriptor.media_type)
        except PeerError as error:
            raise PeerError(error.code, f"manifest {descriptor.digest}: {error.problem}", remedy=error.remedy) from None
        self._references += len(document.manifests if isinstance(document, ImageIndex) else document.layers)
        if self._references > CLOSURE_REFERENCES_MAX:
            problem = f"manifests of one artifact list more than {CLOSURE_REFERENCES_MAX} blobs"
            raise CapacityError("E-LIMIT", problem, limit="CLOSURE_REFERENCES_MAX")
        return document
