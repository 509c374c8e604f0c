"""`policy`: files of rules, before a site reads them: checked, tested by their cases, explained and compared."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from gateway.replaying import Replayed

Tested = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A pack by its name, or a policy file (YAML).")]
Cases = Annotated[Path | None, typer.Option("--cases", metavar="FILE", help="Where the cases are, if not beside the policy.")]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    group = new_app(
        "The policy files: checked, tested, explained and compared before a site reads them; and what was decided, again."
    )
    group.command("check")(check)
    group.command("test")(try_cases)
    group.command("explain")(explain)
    group.command("diff")(diff)
    group.command("packs")(packs)
    group.command("sign")(sign)
    group.command("replay")(replay)
    app.add_typer(group, name="policy")


def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE|DIRECTORY", help="A policy file (YAML), all of a site's, or - for standard input.")
    ],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check policy files before a site reads them: every mistake and doubt, by line. A warning does not fail the check."""
    from gateway.geography import shipped_groups
    from gateway.policy_files import read_policy_text
    from gateway.proofreading import first_error, proofread_directory, proofread_file, proofread_text

    together = None
    if str(file) == "-":
        files = [proofread_text(read_policy_text(sys.stdin.buffer, "standard input"), "standard input", shipped_groups())]
    elif file.is_dir():
        together = proofread_directory(file)
        files = list(together.files)
    else:
        files = [proofread_file(file)]
    found = [
        {"file": checked.name, "line": one.line, "error": one.is_error, "text": one.text}
        for checked in files
        for one in checked.findings
    ]
    document: dict[str, object] = {"findings": found}
    if together is not None and together.policy is not None:
        document |= {"policy": together.policy.digest, "signatures": together.signatures}
    lines = [line for checked in files for line in checked.lines()] if together is None else list(together.lines())
    Terminal(json, quiet, verbose).done(document, lines)
    error = first_error(*files)
    if error is not None:
        raise error


def try_cases(policy: Tested, *, cases: Cases = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Run the cases of a policy, and see whether they would notice if a rule said otherwise."""
    from carnet.errors import CallerError
    from carnet.policy.cases import run_cases
    from gateway.packs import read_tested

    tested = read_tested(policy, cases)
    report = run_cases(tested.policy, tested.questions)
    problems = report.problems
    if not tested.questions:
        problems = (f"there is no {tested.cases_name}: cases stand in a file of that name beside the policy", *problems)
    last = f"policy test {tested.name}: {report.rules} rules, {report.cases} cases, {report.passed} passed"
    document = {
        "policy": tested.name,
        "digest": str(tested.policy.digest),
        "rules": report.rules,
        "cases": report.cases,
        "passed": report.passed,
        "problems": list(problems),
    }
    Terminal(json, quiet, verbose).answer(document, [*problems, last])
    if not report.is_good:
        raise CallerError(
            "E-POLICY",
            f"{tested.name}: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
            remedy="correct the rule or the case; `carnet-gateway policy explain` shows what decided a case",
        )


def explain(
    policy: Tested,
    case: Annotated[str | None, typer.Argument(metavar="CASE", help="The case; all of them, if not given.")] = None,
    *,
    cases: Cases = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a policy says of its cases and why: every rule, with the facts that it read."""
    from carnet.errors import CallerError
    from carnet.policy.cases import explain_case
    from gateway.packs import read_tested

    tested = read_tested(policy, cases)
    wanted = [question for question in tested.questions if case in (None, question.case.name)]
    if not wanted:
        raise CallerError(
            "E-POLICY",
            f"{tested.name} has no case {case!a}" if tested.questions else f"{tested.name} has no cases: no {tested.cases_name}",
            remedy="name a case of the file of cases, or leave it out to see all",
        )  # fmt: skip
    shown = {question.case.name: explain_case(tested.policy, question) for question in wanted}
    lines = [line for name, said in shown.items() for line in (f"case {name}", *said)]
    Terminal(json, quiet, verbose).answer({"cases": shown}, lines)


def diff(
    before: Annotated[str, typer.Argument(metavar="OLD", help="A pack by its name, or a policy file.")],
    after: Annotated[str, typer.Argument(metavar="NEW", help="A pack by its name, or a policy file.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show which rules differ between two policies, and which of the cases of either come out otherwise."""
    from carnet.policy.difference import changed_outcomes, changed_rules
    from gateway.packs import read_tested

    old, new = read_tested(before), read_tested(after)
    asked = {question.case.name: question for question in (*old.questions, *new.questions)}.values()
    rules = list(changed_rules(old.policy, new.policy))
    outcomes = list(changed_outcomes(old.policy, new.policy, asked))
    lines = [*rules, *outcomes] or ["both say the same"]
    Terminal(json, quiet, verbose).answer({"rules": rules, "outcomes": outcomes}, lines)


def replay(
    directory: Directory,
    transfer: Annotated[str, typer.Argument(metavar="TRANSFER", help="The transfer whose decisions are made again.")],
    *,
    under: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE|current", help="Another policy: a pack, a file, or what the site's directory says now."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the decisions about a transfer again from what was kept of them, under the policy of then, or another one.

    Under the policy of then each must come out the same, word by word; if one does not, the status says so.
    """
    from carnet.errors import IntegrityError
    from carnet.identifiers import TransferId
    from gateway.offline import open_site
    from gateway.packs import read_tested
    from gateway.policies import PolicyBook
    from gateway.replaying import replay_transfer

    async def run() -> "list[Replayed]":
        async with open_site(directory) as site:
            if under is None:
                other = None
            else:
                other = PolicyBook(site.paths.policy).policy if under == "current" else read_tested(under).policy
            return await site.catalog.read(lambda tx: replay_transfer(tx, tx.log_entry, TransferId(transfer), other))

    found = wait_for(run())
    lines = [line for one in found for line in one.lines()]
    Terminal(json, quiet, verbose).answer({"transfer": transfer, "decisions": [one.document() for one in found]}, lines)
    others = [one for one in found if not one.is_same]
    if under is None and others:
        raise IntegrityError("E-REPLAY", f"{len(others)} of {len(found)} decisions about {transfer} do not come out as they did")


def sign(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="All policy files of a site, and its groups.")],
    *,
    key: Annotated[Path, typer.Option(help="Your private key: the file that `carnet key new` wrote.")],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Sign a policy as one of its owners: adds your signature to `policy.dsse` beside the files. Needs no site.

    Read it first, and compare the digest with the other owner: two of you sign the same one.
    """
    from carnet.errors import CallerError
    from carnet.policy.endorsement import PolicyEndorsement
    from gateway.keyring import read_signing_key
    from gateway.policies import SIGNATURES, read_policy, read_signatures
    from gateway.storage.durable import write_durable

    if not directory.is_dir():
        raise CallerError("E-POLICY", f"{directory} is no directory", remedy="name the directory of the policy files")
    digest = read_policy(directory).digest
    person = read_signing_key(key, "carnet key new")
    endorsement = PolicyEndorsement(policy=digest)
    known = read_signatures(directory)
    is_same = known is not None and known.payload_type == endorsement.payload_type and known.payload == endorsement.payload()
    envelope = known.with_signature(person) if known is not None and is_same else endorsement.sign(person)
    write_durable((directory / SIGNATURES).absolute(), envelope.encode() + b"\n")
    count = len(envelope.signatures)
    Terminal(json, quiet, verbose).answer(
        {"policy": digest, "signatures": count}, [f"policy {digest} is signed by {count}; two owners must"]
    )


def packs(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The pack to show; their names, if not given.")] = None,
    *,
    cases: Annotated[bool, typer.Option("--cases", help="Show its cases instead.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the packs that come with this version, or show the text of one, to copy and adapt."""
    from gateway.packs import pack, pack_names

    terminal = Terminal(json, quiet, verbose)
    if name is not None:
        tested = pack(name)
        text = tested.cases_text if cases else tested.text
        terminal.answer({"name": name, "text": text}, text.splitlines())
        return
    found = [pack(one).policy.files[0].metadata for one in pack_names()]
    rows = [{"name": one.id, "version": one.version, "description": one.description} for one in found]
    terminal.answer({"packs": rows}, [f"{one.id}  {one.description or ''}".rstrip() for one in found])
