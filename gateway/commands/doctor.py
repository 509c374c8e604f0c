"""`doctor`: whether a site is fit to serve, and the command that puts right what is not."""

from typing import TYPE_CHECKING

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from gateway.doctor.findings import Finding


def add_commands(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command("doctor")(doctor)


def doctor(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Look at all that a site needs, running or stopped; one line for each finding, with the command that puts it right.

    Nothing is changed. Ends with 0 if nothing fails (a warning is no failure), else with the status of the worst kind: 6 for
    damage, 2 for configuration, 5 for what may pass. With -q only what is not ok is printed.
    """
    from gateway.doctor.examining import examine
    from gateway.doctor.findings import Severity, exit_status

    findings = wait_for(examine(directory))
    shown = [finding for finding in findings if not quiet or finding.severity is not Severity.OK]
    document = {
        "findings": [
            {"code": one.code, "severity": one.severity.value, "said": one.said, "fix": one.fix or None} for one in findings
        ],
        "exit_status": exit_status(findings),
    }
    Terminal(json, quiet, verbose).answer(document, [_line(finding) for finding in shown])
    if exit_status(findings):
        raise typer.Exit(exit_status(findings))


def _line(finding: "Finding") -> str:
    said = " ".join(finding.said.split())
    return f"{finding.severity.value:4}  {finding.code:10}  {said}" + (f"; fix: {finding.fix}" if finding.fix else "")
