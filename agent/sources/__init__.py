"""Where artifacts are read: OCI layouts, Docker archives, files, directories, standard input.

Rules:      1. a source is named `scheme:rest`, or `-`  2. a scheme we do not have is refused with the ones we have
"""

import os
from collections.abc import Callable
from pathlib import Path

from agent.names import shown
from agent.ports import Source
from agent.sources.directory import DirectorySource
from agent.sources.docker_archive import DockerArchiveSource
from agent.sources.layout import LayoutSource
from agent.sources.one_blob import FileSource, StreamSource
from carnet.errors import CallerError
from carnet.oci import ArtifactKind

FORMS = "oci:PATH[:TAG|@DIGEST], docker-archive:PATH[:NAME:TAG], file:PATH, dir:PATH, -"
"""How sources are written."""
_SCHEMES = ("oci", "docker-archive", "docker", "file", "dir")


def open_source(text: str, *, kind: ArtifactKind | None = None) -> Source:
    """Return the source that `text` names.

    `kind` says what a file or stream is to be sent as (`file` by default, or `patch`, `bundle`); for other sources it must be
    what they are. Raises `CallerError` E-SOURCE for text or content that is no source, `CapacityError` E-LIMIT for one that is
    too large, `IntegrityError` E-DIGEST for one that is damaged.
    """
    scheme, colon, rest = text.partition(":")
    if text == "-" or scheme == "file":
        if text != "-" and not rest:
            raise _unknown(text)
        its_kind = ArtifactKind.FILE if kind is None else kind
        return StreamSource(its_kind) if text == "-" or rest == "-" else FileSource(rest, its_kind)
    if not colon or not rest:
        raise _unknown(text)
    source = _open(scheme, rest, text)
    if kind is not None and source.kind is not kind:
        raise CallerError("E-SOURCE", f"{shown(text)} is of kind {source.kind}, not {kind}")
    return source


def _open(scheme: str, rest: str, text: str) -> Source:
    if scheme == "dir":
        return DirectorySource(rest)
    if scheme == "oci":
        return _open_layout(rest)
    if scheme == "docker-archive":
        path, name = split_path(rest, is_there=os.path.isfile)
        return DockerArchiveSource(path, name=name)
    if scheme == "docker":
        raise CallerError(
            "E-SOURCE",
            "docker:// is not read by the agent; images reach a gateway's registry through its registry door",
            remedy="copy the image into a layout first, for instance with `skopeo copy`, and push that as oci:PATH",
        )
    raise _unknown(text)


def _open_layout(rest: str) -> Source:
    path, at, digest = rest.rpartition("@")
    if at and digest.startswith("sha256:") and not Path(rest).is_dir():
        return LayoutSource(path, digest=digest)
    path, tag = split_path(rest, is_there=os.path.isdir)
    return LayoutSource(path, tag=tag)


def split_path(rest: str, *, is_there: Callable[[str], bool]) -> tuple[str, str | None]:
    """Return path and name of `PATH[:NAME]`, where both may contain colons: the shortest path that is there wins.

    If none is, a path of the file system is taken to end at the first colon.
    """
    if is_there(rest):
        return rest, None
    colons = [position for position, char in enumerate(rest) if char == ":"]
    for position in colons:
        if is_there(rest[:position]):
            return rest[:position], rest[position + 1 :] or None
    if not colons:
        return rest, None
    return rest[: colons[0]], rest[colons[0] + 1 :] or None


def _unknown(text: str) -> CallerError:
    remedy = f"write a source as one of: {FORMS}"
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _SCHEMES and not rest:
        return CallerError("E-SOURCE", f"no path follows {text}", remedy=remedy)
    if os.path.lexists(text):
        remedy = f"did you mean {'dir' if Path(text).is_dir() else 'file'}:{shown(text)}? {remedy}"
    return CallerError("E-SOURCE", f"not a source: {shown(text) or 'empty text'}", remedy=remedy)
