"""The site's policy: read from its directory, replaced whole or not at all, and the facts it is asked about.

Rules:      1. at start a bad file stops the site; later it changes nothing, and the policy before stays
            2. a reload is all files or none  3. facts come from signed or authenticated documents and from the trust bundle only
Spec:       docs/policy.md; docs/operations.md section "Policy"
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Final

from carnet.decision import Gate
from carnet.encoding import JsonValue
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, PeerError
from carnet.identifiers import Digest, SiteName, SpiffeId
from carnet.limits import POLICY_FILES_MAX
from carnet.policy import Assurance, Fact, Facts, Policy, PolicyDecision, combine, evaluate, make_fact, parse_policy, undecided
from carnet.suites import FIPS_SUITES
from carnet.trust import Carriage, Lane, Site, TrustBundle
from gateway.geography import DIRECTORY as GROUPS
from gateway.geography import load_groups
from gateway.policy_files import read_policy_file

_PATTERN: Final = "*.yaml"
SIGNATURES: Final = "policy.dsse"
"""What the owners signed, beside the files."""
CASES_SUFFIX: Final = ".cases.yaml"
"""Files of cases stand beside the policy that they are about, and are none."""
_AUTHENTICATED: Final = frozenset({"origin.site", "origin.agent"})
"""Declared facts that the caller has verified: the signature, or the client certificate, is by whom they name."""


class PolicyBook:
    """The policy in force. `reload` may run in a thread: it replaces the policy whole, so a decision sees one policy."""

    def __init__(self, directory: Path) -> None:
        """Read every `*.yaml` of `directory`; raise `CallerError` E-POLICY naming file and line if one is not sound."""
        self._directory = directory
        self._stamp = _stamp(directory)
        self._read = (read_policy(directory), read_signatures(directory))

    @property
    def digest(self) -> Digest:
        """The digest of the policy in force."""
        return self._read[0].digest

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._read[0]

    @property
    def signatures(self) -> Envelope | None:
        """What owners signed about it, unverified, or None."""
        return self._read[1]

    def reload(self, require: Callable[[Policy, Envelope | None], None] = lambda _policy, _signed: None) -> bool:
        """Read the directory again; tell whether the policy changed. On `CallerError` E-POLICY the old one stays in force.

        `require` is asked about what was read before it replaces anything, and raises to refuse it.
        """
        stamp = _stamp(self._directory)
        if stamp == self._stamp:
            return False
        found, signed = read_policy(self._directory), read_signatures(self._directory)
        require(found, signed)
        self._stamp = stamp
        changed = found.digest != self._read[0].digest
        self._read = (found, signed)
        return changed


def decide(policy: Policy, gate: Gate, facts: Facts, on: date | None = None) -> PolicyDecision:
    """Return what `policy` decides at `gate` about `facts` on the day `on`, see `evaluate`.

    Never raises: what cannot be decided is held.
    """
    try:
        return evaluate(policy, gate, facts, on)
    except Exception as error:  # noqa: BLE001 - a defect here must hold, whatever it is
        return undecided(policy, gate, type(error).__name__)


def gather_facts(
    declared: Mapping[str, JsonValue],
    *,
    source: str,
    bundle: TrustBundle,
    lane: Lane,
    destination: SiteName,
    recipient: SpiffeId,
    inspected: bool | None,
) -> dict[str, Fact]:
    """Return all facts about one artifact on its way to one recipient.

    Args:
        declared: what `carnet.waybill.declared_facts` returned; the caller has verified who said it.
        source: where that stood, `waybill` or `declaration`; explanations name it.
        bundle: what the site trusts now; jurisdictions and operators come from it.
        lane: the lane it travels on.
        destination: the site it goes to; for a pull, the site that is asked.
        recipient: who gets the key: the destination's gateway, or who pulls.
        inspected: whether this site opened the content and found it to be what was signed; None while that is not known.

    Raises:
        NotFound: E-SITE-UNKNOWN if the origin or the destination is not in the bundle.
    """
    facts = {name: _declared_fact(name, value, source) for name, value in _flattened(declared)}
    origin = bundle.site(SiteName(str(declared["origin.site"])))
    target = bundle.site(destination)
    derived: dict[str, JsonValue] = {
        "origin.jurisdiction": origin.jurisdiction,
        "origin.operator": origin.operator,
        "destination.site": target.name,
        "destination.jurisdiction": target.jurisdiction,
        "destination.operator": target.operator,
        "lane.mode": lane.mode.value,
        "suite.fips": all(suite in FIPS_SUITES for suite in lane.suites),
        "lane.crosses_border": origin.jurisdiction[:2] != target.jurisdiction[:2],
        "recipient.kind": recipient.kind,
        "recipient.identity": recipient,
        "recipient.site": recipient.site,
        "recipient.is_originator": recipient == declared["origin.agent"],
        **_path_facts(bundle, lane, origin, target),
    }
    if inspected is not None:
        facts["content.inspected"] = make_fact("content.inspected", inspected, Assurance.DERIVED, "this site")
    bundle_name = f"trust bundle {bundle.version}"
    facts.update({name: make_fact(name, value, Assurance.DERIVED, bundle_name) for name, value in derived.items()})
    return facts


def _path_facts(bundle: TrustBundle, lane: Lane, origin: Site, target: Site) -> dict[str, JsonValue]:
    """Return where the artifact may pass and rest, and who holds a key: of any route, for any may be taken."""
    relays = [bundle.site(name) for name in lane.relays]
    stores = [bundle.site(name) for route in lane.routes if route.carriage is Carriage.STORE for name in route.relays]
    return {
        "path.countries": _countries(origin, *relays, target),
        "path.relays": [str(relay.name) for relay in relays],
        "storage.countries": _countries(origin, *stores, target),
        "custody.countries": _countries(origin, target),
        "custody.sites": list(dict.fromkeys(str(site.name) for site in (origin, target))),
    }


def _countries(*sites: Site) -> list[JsonValue]:
    """Return each jurisdiction once, in order."""
    return list(dict.fromkeys(str(site.jurisdiction) for site in sites))


def dev_policy() -> str:
    """Return the text of the policy of a site that is for trying out: everything within the site is allowed."""
    return files("gateway").joinpath("data/dev-policy.yaml").read_text("utf-8")


def _flattened(declared: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """Yield declared facts as rules know them: of the parties, their names and their countries."""
    for name, value in declared.items():
        if name != "parties":
            yield name, value
            continue
        parties = [party for party in value if isinstance(party, Mapping)] if isinstance(value, list | tuple) else []
        for member in ("name", "country"):
            found = [party[member] for party in parties if member in party]
            # A party without a country leaves the list incomplete; an incomplete list must not pass for a whole one.
            if len(found) == len(parties):
                yield f"parties.{'names' if member == 'name' else 'countries'}", found


def _declared_fact(name: str, value: JsonValue, source: str) -> Fact:
    return make_fact(name, value, Assurance.VERIFIED if name in _AUTHENTICATED else Assurance.DECLARED, source)


def _stamp(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes when a policy file is written, added or removed."""
    found = []
    for path in [
        *policy_paths(directory),
        *unread_paths(directory),
        directory / SIGNATURES,
        *sorted((directory / GROUPS).glob(_PATTERN)),
    ]:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def policy_paths(directory: Path) -> list[Path]:
    """Return the files that are the policy of `directory`, by name."""
    return [path for path in sorted(directory.glob(_PATTERN)) if not path.name.endswith(CASES_SUFFIX)]


def read_signatures(directory: Path) -> Envelope | None:
    """Return what owners signed about the policy in `directory`, unverified, or None; raise `CallerError` E-POLICY for junk."""
    path = directory / SIGNATURES
    if not path.exists():
        return None
    try:
        return parse_envelope(read_policy_file(path, path.name).strip().encode("utf-8"))
    except PeerError as error:
        raise CallerError(
            "E-POLICY", f"{path.name}: {error.problem}", remedy="remove it, and have the policy signed again"
        ) from None


def read_policy(directory: Path) -> Policy:
    """Return what all policy files of `directory` say together; raise `CallerError` E-POLICY with file and line of a mistake."""
    paths = policy_paths(directory)
    unread = unread_paths(directory)
    if unread:
        raise CallerError(
            "E-POLICY", f"{unread[0].relative_to(directory)} looks like a policy file, and would not be read",
            remedy=f"name it {_PATTERN} in {directory} itself, or move it out of there",
        )  # fmt: skip
    if not paths:
        raise CallerError(
            "E-POLICY", f"no {_PATTERN} in {directory}: nothing would be allowed", remedy="write a policy file there"
        )
    if len(paths) > POLICY_FILES_MAX:
        raise CallerError("E-POLICY", f"{len(paths)} policy files, at most {POLICY_FILES_MAX} are read (POLICY_FILES_MAX)")
    groups = load_groups(directory)
    files = {path.name: parse_policy(read_policy_file(path, path.name), path.name, groups) for path in paths}
    _check_ids({name: [file.metadata.id] for name, file in files.items()}, "policy id")
    _check_ids({name: [rule.id for rule in file.rules] for name, file in files.items()}, "rule id")
    return combine(files.values(), groups)


def _check_ids(named: Mapping[str, list[str]], what: str) -> None:
    """Refuse an id that stands in two files, naming both."""
    seen: dict[str, str] = {}
    for name, ids in named.items():
        for one in ids:
            if seen.setdefault(one, name) != name:
                raise CallerError(
                    "E-POLICY", f"the {what} {one} stands in {seen[one]} and in {name}", remedy="give one of the two another id"
                )


def unread_paths(directory: Path) -> list[Path]:
    """Return, by name, what an author may take for a policy in force, or for a file of groups, and a site does not read."""
    beside = _entries(directory)
    within = [path for below in beside for path in _entries(below)]
    return [
        path
        for path in (*beside, *within)
        if path.suffix.lower() in (".yaml", ".yml")
        and not path.is_dir()
        and not (path.suffix == ".yaml" and path.parent in (directory, directory / GROUPS))
    ]


def _entries(directory: Path) -> list[Path]:
    """Return what is in a directory, by name; of what is none, nothing."""
    try:
        return sorted(directory.iterdir()) if directory.is_dir() else []
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise CallerError("E-POLICY", f"{directory} cannot be read: {reason}", remedy="see that the site may read it") from None
