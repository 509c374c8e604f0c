"""`artifact list|show|delete`: what is at the home site."""

from typing import Annotated

import typer

from agent.commands.connection import GiveUp, asking, connected
from agent.commands.progress_line import format_bytes
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for

Name = Annotated[str, typer.Argument(metavar="REPOSITORY:TAG", help="The artifact.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group to the root."""
    group = new_app("What is at the home site.")
    group.command("list")(list_artifacts)
    group.command("show")(show)
    group.command("delete")(delete)
    app.add_typer(group, name="artifact")


def list_artifacts(
    *,
    repository: Annotated[str | None, typer.Option(help="Only this repository.")] = None,
    timeout: GiveUp = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the artifacts that may be pulled, by name."""
    from carnet.identifiers import Repository
    from carnet.messages import ArtifactView

    wanted = None if repository is None else Repository(repository)
    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with connected(terminal, timeouts=asking(timeout)) as session:
            views: list[ArtifactView] = []
            after = None
            while True:
                page = await session.client.artifacts(repository=wanted, after=after)
                views.extend(page.artifacts)
                if page.next is None:
                    break
                after = page.next
            lines = [
                f"{view.repository}:{view.tag}  {view.digest}  {view.kind}  {format_bytes(view.size)}  from {view.origin}"
                for view in views
            ]
            terminal.answer({"artifacts": [view.model_dump(mode="json") for view in views]}, lines)

    wait_for(work())


def show(name: Name, *, timeout: GiveUp = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Show one artifact: digest, kind, size, where from, since when."""
    from agent.commands.names import parse_name

    repository, tag = parse_name(name)
    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with connected(terminal, timeouts=asking(timeout)) as session:
            view = await session.client.artifact(repository, tag)
            document = view.model_dump(mode="json")
            lines = [f"{key.replace('_', ' ')}: {value}" for key, value in document.items()]
            terminal.answer({"artifact": document}, lines)

    wait_for(work())


def delete(name: Name, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Remove a tag; the content goes when no other tag has it."""
    from agent.commands.names import parse_name

    repository, tag = parse_name(name)
    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with connected(terminal) as session:
            await session.client.delete_artifact(repository, tag)
            terminal.done({"deleted": name}, [f"DELETED  {name}"])

    wait_for(work())
