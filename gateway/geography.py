"""The groups of jurisdictions that a site's policy may name: those that come with this version, or the site's own in their place.

A file of the site replaces the one of the same id; it is how a list that changed is corrected without a new version.

Rules:      1. a bad file stops the start, or leaves what was before in force  2. nothing is fetched: lists are files
Spec:       docs/policy.md section "Groups of jurisdictions"
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from carnet.errors import CallerError
from carnet.limits import POLICY_FILES_MAX
from carnet.policy import GroupFile, Groups, parse_groups
from gateway.policy_files import read_policy_file

DIRECTORY: Final = "groups"
"""Within the directory of a site's policy."""


@cache
def shipped_groups() -> Groups:
    """Return the groups that come with this version."""
    return Groups(_shipped())


def load_groups(policy_directory: Path) -> Groups:
    """Return the groups for a site; raise `CallerError` E-POLICY naming file and line if one of its own is not sound."""
    own_paths = sorted((policy_directory / DIRECTORY).glob("*.yaml"))
    if not own_paths:
        return shipped_groups()
    if len(own_paths) > POLICY_FILES_MAX:
        raise CallerError("E-POLICY", f"{len(own_paths)} files of groups, at most {POLICY_FILES_MAX} are read (POLICY_FILES_MAX)")
    own = [parse_groups(read_policy_file(path, f"{DIRECTORY}/{path.name}"), f"{DIRECTORY}/{path.name}") for path in own_paths]
    replaced = {file.id for file in own}
    return Groups([*own, *(file for file in _shipped() if file.id not in replaced)])


@cache
def _shipped() -> tuple[GroupFile, ...]:
    directory = files("gateway").joinpath("data/groups")
    return tuple(
        parse_groups(entry.read_text("utf-8"), entry.name)
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    )
