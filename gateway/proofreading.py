"""Proofreading: all that is wrong or doubtful in one policy file, or in all files of a site together, before a site reads them.

Rules:      1. what is an error here a site refuses to read, and the other way round  2. nothing is changed, and no site is needed
Spec:       docs/policy.md section "Checking"
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carnet.errors import CallerError
from carnet.policy import Finding, Groups, Policy, check_policy, gates_without_permit
from gateway.geography import load_groups
from gateway.policies import policy_paths, read_policy, read_signatures, unread_paths
from gateway.policy_files import read_policy_file
from gateway.proposals import ROLES

_UNREAD: Final = (
    "it looks like a policy file, and a site would not read it: name it *.yaml in the directory itself, or move it out"
)


@dataclass(frozen=True)
class FileFindings:
    """What was found in one file; `name` is as the author named it."""

    name: str
    findings: tuple[Finding, ...]

    def lines(self) -> Iterator[str]:
        """Yield a line for each finding, or one that says that there is none."""
        yield from (f"{self.name}: {finding}" for finding in self.findings)
        if not self.findings:
            yield f"{self.name}: in order"


@dataclass(frozen=True)
class PolicyFindings:
    """What was found in all files of a site: in each, and in all together unless one has errors."""

    files: tuple[FileFindings, ...]
    policy: Policy | None
    signatures: int

    def lines(self) -> Iterator[str]:
        """Yield the lines of each file, then what the policy is called, what it lacks, and how many keys signed it."""
        for file in self.files:
            yield from file.lines()
        if self.policy is None:
            return
        for gate in gates_without_permit(*self.policy.files):
            yield f"warning: no rule of any file allows at {gate.value}"
        rules = sum(len(file.rules) for file in self.policy.files)
        yield f"policy {self.policy.digest}: files {len(self.policy.files)}, rules {rules}, signatures {self.signatures}"


def proofread_text(text: str, name: str, groups: Groups) -> FileFindings:
    """Return what is wrong or doubtful in the policy file `text`, taken for the whole policy."""
    return FileFindings(name, tuple(check_policy(text, groups, roles=ROLES)))


def proofread_file(path: Path) -> FileFindings:
    """Return what is wrong or doubtful in one file; raise `CallerError` E-POLICY if it, or a file of groups, is unreadable."""
    found = proofread_text(read_policy_file(path, str(path)), str(path), load_groups(path.parent))
    if path.suffix == ".yaml":
        return found
    text = f"a site does not read it under this name: policy files end in .yaml, and this one ends in {path.suffix or 'nothing'}"
    return FileFindings(found.name, (Finding(1, False, text), *found.findings))


def proofread_directory(directory: Path) -> PolicyFindings:
    """Return what is wrong or doubtful in all policy files of a directory, each and together.

    Raises:
        CallerError: E-POLICY if a file is unreadable, or says what another says too.
    """
    groups = load_groups(directory)
    files = tuple(
        FileFindings(path.name, tuple(check_policy(read_policy_file(path, path.name), groups, roles=ROLES, is_whole=False)))
        for path in policy_paths(directory)
    )
    unread = [FileFindings(str(path.relative_to(directory)), (Finding(1, True, _UNREAD),)) for path in unread_paths(directory)]
    files = (*files, *unread)
    if any(finding.is_error for file in files for finding in file.findings):
        return PolicyFindings(files, None, 0)
    signed = read_signatures(directory)
    policy = read_policy(directory)
    return PolicyFindings(files, policy, 0 if signed is None else len(signed.signatures))


def first_error(*files: FileFindings) -> CallerError | None:
    """Return what to raise for what was found, or None if nothing is an error."""
    errors = [f"{file.name}: {finding}" for file in files for finding in file.findings if finding.is_error]
    if not errors:
        return None
    return CallerError("E-POLICY", errors[0] + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""))
