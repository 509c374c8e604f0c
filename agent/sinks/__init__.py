"""Where artifacts are written: OCI layouts, Docker archives, files, directories, standard output.

Rules:      1. a sink is named `scheme:rest`, or `-`  2. what a kind cannot be written to is refused with what it can
"""

import os
from pathlib import Path

from agent.names import shown
from agent.ports import Sink
from agent.sinks.directory import DirectoryContent
from agent.sinks.docker_archive import DockerArchiveSink
from agent.sinks.layout import LayoutSink
from agent.sinks.one_blob import FileContent, OneBlobSink, StreamContent
from carnet.errors import CallerError
from carnet.oci import TAR, ArtifactKind

FORMS = "oci:PATH[:TAG], docker-archive:PATH[:NAME:TAG], file:PATH, dir:PATH, -"
"""How sinks are written."""

_FITTING = {
    ArtifactKind.IMAGE: "oci:PATH:TAG or docker-archive:PATH",
    ArtifactKind.INDEX: "oci:PATH:TAG",
    ArtifactKind.FILE: "file:PATH, - or oci:PATH:TAG",
    ArtifactKind.PATCH: "file:PATH, - or oci:PATH:TAG",
    ArtifactKind.BUNDLE: "file:PATH, - or oci:PATH:TAG",
    ArtifactKind.DIRECTORY: "dir:PATH or oci:PATH:TAG",
}
_SCHEMES = ("oci", "docker-archive", "file", "dir")
_FILE_KINDS = (ArtifactKind.FILE, ArtifactKind.PATCH, ArtifactKind.BUNDLE)


def open_sink(text: str, kind: ArtifactKind, *, tag: str = "latest", name: str | None = None) -> Sink:
    """Return the sink that `text` names, for an artifact of `kind`.

    `tag` is what an `oci:` sink without a tag gets; `name` (`repository:tag`) what a `docker-archive:` without one gets. Raises
    `CallerError` E-SINK for text that is no sink, a kind that does not go there, or a place that is taken. Nothing is written
    before `begin`.
    """
    scheme, colon, rest = text.partition(":")
    if text == "-" or (scheme == "file" and rest == "-"):
        _check_kind(text, kind, _FILE_KINDS)
        return OneBlobSink(StreamContent())
    if not colon or not rest:
        raise _unknown(text)
    if scheme == "file":
        _check_kind(text, kind, _FILE_KINDS)
        return OneBlobSink(FileContent(rest))
    if scheme == "dir":
        _check_kind(text, kind, (ArtifactKind.DIRECTORY,))
        return OneBlobSink(DirectoryContent(rest), media_type=TAR)
    if scheme == "oci":
        path, its_tag = _split(rest)
        return LayoutSink(path, its_tag or tag)
    if scheme == "docker-archive":
        _check_kind(text, kind, (ArtifactKind.IMAGE,))
        path, _, its_name = rest.partition(":")
        return DockerArchiveSink(path, name=its_name or name)
    raise _unknown(text)


def _split(rest: str) -> tuple[str, str]:
    """Return path and tag of `PATH[:TAG]`: a directory that is there wins, else the path ends at the first colon."""
    for position, char in enumerate(rest + ":"):
        if char == ":" and Path(rest[:position]).is_dir():
            return rest[:position], rest[position + 1 :]
    path, _, tag = rest.partition(":")
    return path, tag


def _check_kind(text: str, kind: ArtifactKind, fitting: tuple[ArtifactKind, ...]) -> None:
    if kind not in fitting:
        article = "an" if kind in (ArtifactKind.IMAGE, ArtifactKind.INDEX) else "a"
        words = "image index" if kind is ArtifactKind.INDEX else str(kind)
        raise CallerError(
            "E-SINK", f"{article} {words} cannot be written to {shown(text)}", remedy=f"write it to {_FITTING[kind]}"
        )


def _unknown(text: str) -> CallerError:
    remedy = f"write a sink as one of: {FORMS}"
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _SCHEMES and not rest:
        return CallerError("E-SINK", f"no path follows {text}", remedy=remedy)
    if text and not colon and os.path.isdir(os.path.dirname(text) or "."):  # noqa: PTH112, PTH120 - names may be any bytes
        remedy = f"did you mean file:{shown(text)}, dir:{shown(text)} or oci:{shown(text)}:TAG? {remedy}"
    return CallerError("E-SINK", f"not a sink: {shown(text) or 'empty text'}", remedy=remedy)
