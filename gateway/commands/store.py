"""`store`: whether what is in the store is right, how much it is, and what of it is nobody's."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from gateway.checking import Affected, Checked, Finding, Subset
    from gateway.reclaiming import Reclaimed
    from gateway.surveying import Survey

_FAULTS_SHOWN_MAX = 1_000
_REPOSITORIES_SHOWN = 10


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    store = new_app("The segments on disk.")
    store.command("check")(check_segments)
    store.command("stats")(show_stats)
    store.command("reclaim")(reclaim)
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


def show_stats(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Tell how much is in the store, what it is there for, what sharing saves, and how much room is left.

    Reads names and sizes, not the segments; the site may be served meanwhile.
    """
    figures = wait_for(_survey(directory))
    survey, lines = figures.survey, []
    for name, amount, note in (
        ("store", survey.stored, ""),
        ("known", survey.known, f"the catalog lists {survey.listed.count} segments, {survey.listed.size} bytes"),
        ("delivered", survey.delivered, "what was delivered here, or from here, needs it"),
        ("in transfer", survey.in_transfer, "only what is under way needs it"),
        ("nobody's", survey.nobodys, f"see carnet-gateway store reclaim {directory} --dry-run" if survey.nobodys.count else ""),
        ("shared", survey.shared, f"several transfers need it, which saves {survey.saved_bytes} bytes"),
    ):
        lines.append(f"{name:12} {amount.count} segments, {amount.size} bytes" + (f"; {note}" if note else ""))
    lines += [
        f"{'unfinished':12} {survey.unfinished_bytes} bytes came for transfers that are not committed",
        f"{'temporary':12} {survey.temporary.count} files, {survey.temporary.size} bytes",
        f"{'free':12} {figures.free} bytes, of which {figures.reserve} are kept free",
    ]
    lines += [f"{'repository':12} {name}  {size} bytes" for name, size in survey.repositories.most_common(_REPOSITORIES_SHOWN)]
    Terminal(json, quiet, verbose).answer(figures.document(), lines)


def reclaim(
    directory: Directory,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, only tell how much would be.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Remove files of the store that nothing refers to: what crashes left. The site may be served meanwhile.

    If it is, the process that serves it does this, between the segments that it takes in; if not, it cannot be started until
    this has ended. Nothing is removed if the catalog is damaged, or older than the published log.
    """
    terminal = Terminal(json, quiet, verbose)
    found = wait_for(_reclaim(directory, terminal, dry_run=dry_run))
    said = "would be removed" if dry_run else "removed"
    lines = [
        f"{found.segments} segments, {found.segment_bytes} bytes {said}",
        f"{found.temporaries} temporary files, {found.temporary_bytes} bytes {said}",
    ]
    document = {
        "dry_run": dry_run,
        "segments": found.segments,
        "segment_bytes": found.segment_bytes,
        "temporary_files": found.temporaries,
        "temporary_bytes": found.temporary_bytes,
    }
    terminal.done(document, lines)


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


@dataclass(frozen=True)
class _Figures:
    """A survey of the store, and the room on its disk."""

    survey: "Survey"
    free: int
    reserve: int

    def document(self) -> dict[str, Any]:
        """Return it for a program."""
        survey = self.survey
        amounts = {
            "stored": survey.stored,
            "known": survey.known,
            "listed": survey.listed,
            "delivered": survey.delivered,
            "in_transfer": survey.in_transfer,
            "nobodys": survey.nobodys,
            "shared": survey.shared,
        }
        return {
            **{name: {"segments": amount.count, "bytes": amount.size} for name, amount in amounts.items()},
            "saved_bytes": survey.saved_bytes,
            "unfinished_bytes": survey.unfinished_bytes,
            "temporary": {"files": survey.temporary.count, "bytes": survey.temporary.size},
            "disk": {"free_bytes": self.free, "reserve_bytes": self.reserve},
            "repositories": [
                {"repository": name, "bytes": size} for name, size in survey.repositories.most_common(_REPOSITORIES_SHOWN)
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


async def _survey(directory: Path) -> _Figures:
    from gateway.offline import open_site, open_store
    from gateway.reserve import free_bytes
    from gateway.surveying import survey_store

    async with open_site(directory) as site:
        store = open_store(site.paths)
        try:
            survey = await survey_store(site.catalog, store)
        finally:
            store.close()
        return _Figures(survey, free_bytes(site.paths.root), site.settings.limits.disk_reserve_bytes)


async def _reclaim(directory: Path, terminal: Terminal, *, dry_run: bool) -> "Reclaimed":
    """Reclaim as the owner of the store if nobody serves the site, and ask its owner otherwise."""
    from contextlib import ExitStack

    from carnet.errors import Unavailable
    from gateway.offline import open_site, open_store, require_sound
    from gateway.reclaim_request import ask_to_reclaim
    from gateway.reclaiming import Reclaim
    from gateway.segment_guard import SegmentGuard
    from gateway.sitedir import hold_site

    async with open_site(directory) as site:
        with ExitStack() as stack:
            await require_sound(site)
            try:
                stack.enter_context(hold_site(site.paths))
            except Unavailable:
                terminal.note("the site is served; the process that serves it is asked")
                return await ask_to_reclaim(site.catalog, dry_run=dry_run)
            store = open_store(site.paths)
            stack.callback(store.close)
            return await Reclaim(site.catalog, store, SegmentGuard()).run(dry_run=dry_run)
