"""`store`: what is in the store, whether it is right."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from gateway.checking import Affected, Checked, Finding, Subset

_FAULTS_SHOWN_MAX = 1_000


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    store = new_app("The segments on disk.")
    store.command("check")(check_segments)
    store.callback()(_group)
    app.add_typer(store, name="store")


def check_segments(
    directory: Directory,
    *,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and hash every segment, not only its size.")] = False,
    subset: Annotated[
        str | None, typer.Option(help="N/T: only part N of T, to read a large store in T nights; the parts do not change.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare the segments on disk with the catalog, and log that it was done. The site may be served meanwhile.

    Segments that are missing or damaged fail the check (status 6), with the artifacts and transfers that need them; segments that
    nobody knows are only named. No segment is changed.
    """
    from carnet.errors import IntegrityError

    found = wait_for(_check_store(directory, _parse_subset(subset), read_data=read_data))
    bad = [one.segment for one in found.findings if one.fault.value != "unknown"]
    lines = [f"{one.fault.value:8} {one.segment}" for one in found.findings[:_FAULTS_SHOWN_MAX]]
    lines += [
        f"affected {one.artifact}  transfer {one.transfer} ({one.state}{', can be pulled' if one.is_visible else ''})"
        for one in found.affected[:_FAULTS_SHOWN_MAX]
    ]
    how = "read" if read_data else "looked at"
    lines += [f"{found.checked.segments} segments, {found.checked.size} bytes {how}" + ("" if bad else ": the store is in order")]
    Terminal(json, quiet, verbose).done(found.document(), lines)
    if bad:
        raise IntegrityError(
            "E-SEGMENT-CORRUPT",
            f"{len(bad)} segments are missing or damaged, the first is {bad[0]}; {len(found.affected)} transfers need them",
            remedy="run the pushes that sent them again, or restore the store from the backup",
        )


def _group() -> None:
    """Keep a group of one command a group."""


@dataclass(frozen=True)
class _Report:
    """What a check of the store found."""

    checked: "Checked"
    findings: "list[Finding]"
    affected: "list[Affected]"

    def document(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "segments": self.checked.segments,
            "bytes": self.checked.size,
            "findings": [{"segment": one.segment, "fault": one.fault.value} for one in self.findings],
            "affected": [
                {"artifact": one.artifact, "transfer": one.transfer, "state": one.state, "visible": one.is_visible}
                for one in self.affected
            ],
        }


def _parse_subset(text: str | None) -> "Subset":
    from carnet.errors import CallerError
    from gateway.checking import Subset

    if text is None:
        return Subset()
    number, _, count = text.partition("/")
    digits = number.isascii() and number.isdigit() and count.isascii() and count.isdigit() and len(text) <= len("9999/9999")
    if not digits or not 1 <= int(number) <= int(count):
        raise CallerError("E-USAGE", f"not a subset: {ascii(text)[:40]}", remedy="write N/T, part N of T: --subset 1/7")
    return Subset(int(number), int(count))


async def _check_store(directory: Path, subset: "Subset", *, read_data: bool) -> _Report:
    from gateway.checking import Checked, affected_by, check_store, log_check
    from gateway.offline import open_site, open_store

    async with open_site(directory) as site:
        store, checked = open_store(site.paths), Checked()
        try:
            looking = check_store(site.catalog, store, read_data=read_data, subset=subset, checked=checked)
            findings = [one async for one in looking]
        finally:
            store.close()
        affected = await affected_by(site.catalog, findings)
        await log_check(site.catalog, subset, checked, findings, read_data=read_data)
        return _Report(checked, findings, affected)
