"""The site's settings: `gateway.toml`, overridden by the environment; the only reader of either.

Order: environment (`CARNET_GATEWAY_<KEY>`, nested by `__`), then the file, then the default. No setting is a secret: secrets are
key files, which a credentials directory (systemd's, for one) may hold instead of the site directory.

Rules:      1. an unknown key is refused by its name  2. paths in the file are relative to the file
            3. every bound here has a unit as its last word
Spec:       docs/operations.md section "Settings"
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import SettingsConfigDict

from carnet.errors import CallerError
from carnet.flow.configuration import FileSettings, first_problem, read_settings
from carnet.identifiers import Jurisdiction, SiteName, SpiffeId

FILE_NAME: Final = "gateway.toml"
ENVIRONMENT_PREFIX: Final = "CARNET_GATEWAY_"
_TIB = 1 << 40
_MIB = 1 << 20
_HTTPS_PORT = 443
_PORT_MAX = 65_535
_TRUST_DOMAIN = r"^[a-z0-9](?:[a-z0-9.-]{0,253}[a-z0-9])?$"
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`; raise `ValueError` for anything else. Port 0 means any free one."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX or not bare:
        raise ValueError(f"not host:port: {ascii(text)[:80]}")
    if bare != host:
        ip_address(bare)
    elif _HOST.fullmatch(bare) is None:
        raise ValueError(f"not a host: {ascii(host)[:80]}")
    return bare, int(port)


def _check_address(text: str) -> str:
    parse_address(text)
    return text


def check_url(text: str) -> str:
    """Return a gateway's url; raise `ValueError` for all but `https://host[:port]`: paths are the protocol's."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.username:
        raise ValueError("a gateway's url is https://host:port")
    parse_address(f"{parts.hostname if ':' not in parts.hostname else f'[{parts.hostname}]'}:{parts.port or 443}")
    return text.rstrip("/")


def listening(url: str) -> tuple[str, ...]:
    """Return where a site reached at `url` listens unless told otherwise: the same port of every interface.

    Of a url that is none it says nothing: the check of the setting itself names what is wrong with it.
    """
    try:
        port = urlsplit(url).port or _HTTPS_PORT
    except ValueError:
        port = _HTTPS_PORT
    return (f"0.0.0.0:{port}",)


def _check_host(text: str) -> str:
    """Accept what a certificate can name: a DNS name, which may begin with `*.`, or an address."""
    if _HOST.fullmatch(text.removeprefix("*.")) is None:
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(f"not a host name or address: {ascii(text)[:80]}") from None
    return text


Address = Annotated[str, AfterValidator(_check_address)]
GatewayUrl = Annotated[str, Field(max_length=512), AfterValidator(check_url)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Section):
    """What one identity, one transfer, and all together, may take; an E-LIMIT error names these keys."""

    open_transfers_max: Annotated[int, Field(ge=1)] = 64
    """Unfinished transfers of one agent."""
    peer_open_transfers_max: Annotated[int, Field(ge=1)] = 1_024
    """Transfers that one other site is sending at once."""
    transfer_hours: Annotated[int, Field(ge=1, le=24 * 365)] = 72
    """Hours after which an unfinished transfer expires."""
    hold_hours: Annotated[int, Field(ge=1, le=24 * 365)] = 168
    """Hours after which a delivery expires that waits for a person, a fact or a date."""
    agent_days: Annotated[int, Field(ge=0, le=3_650)] = 365
    """Days after which the rights end that an invite or `agent grant` gives; 0 means that they need not."""
    recheck_hours: Annotated[int, Field(ge=1, le=24 * 365)] = 24
    """Hours after which what was delivered is asked about again at `recheck`, if nothing changed that asks for it earlier."""
    uncommitted_bytes_max: Annotated[int, Field(ge=1)] = 4 * _TIB
    """Sealed bytes that one transfer may bring in."""
    kem_hold_days: Annotated[int, Field(ge=1, le=365)] = 30
    """Days after its end that a KEM key of the site is kept: the longest that what is wrapped to it may still be held."""
    unfinished_bytes_max: Annotated[int, Field(ge=1)] = 8 * _TIB
    """Sealed bytes that all unfinished transfers of one identity may bring in together."""
    pinned_bytes_max: Annotated[int, Field(ge=1)] = 8 * _TIB
    """Bytes of segments that are here already and that one transfer of another site may keep here."""
    relay_transfers_max: Annotated[int, Field(ge=1)] = 256
    """Passages of one peer on which something moved within the last hour, here as a relay or at their end."""
    relay_bytes_max: Annotated[int, Field(ge=1)] = _TIB
    """Sealed bytes that this site, as a relay, holds or has promised to take for one peer."""
    pull_grace_hours: Annotated[int, Field(ge=0, le=168)] = 24
    """Hours for which pulls go on after the trust bundle or a revocation set expired; controlled content has none."""
    connections_max: Annotated[int, Field(ge=1)] = 1_024
    """Open connections in all; one more closes the oldest that is idle and was never authenticated, else itself."""
    handshakes_max: Annotated[int, Field(ge=1)] = 256
    """Connections in their TLS handshake at once; one more closes the one that has waited longest."""
    connections_per_identity_max: Annotated[int, Field(ge=1)] = 64
    """Open connections of one identity, all its runners together."""
    requests_per_s_max: Annotated[float, Field(ge=0)] = 1_000.0
    """Requests a second of one identity, twice as many in a burst; 0 means no limit."""
    bytes_in_flight_max: Annotated[int, Field(ge=8 * _MIB)] = 64 * _MIB
    """Bytes of bodies in memory at once; a segment counts 3 MiB, with what its connection takes meanwhile."""
    bytes_in_flight_per_identity_max: Annotated[int, Field(ge=4 * _MIB)] = 48 * _MIB
    """Of these, by one identity."""
    disk_reserve_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    """Bytes kept free on the disk of the site: below that, new declarations and segments are refused, all else goes on."""


class Timeouts(_Section):
    """How long the server waits, in seconds, and how slow a body may be."""

    handshake_s: Seconds = 5.0
    """From connection to the end of the TLS handshake."""
    header_s: Seconds = 10.0
    """From the first byte of a request to the end of its headers."""
    body_s: Seconds = 900.0
    """From the first to the last byte of any body."""
    idle_s: Seconds = 75.0
    """Keep-alive without a request."""
    relay_s: Seconds = 3_600.0
    """What this site sends over relays: without anything arriving for so long, the route is given up."""
    route_rest_s: Seconds = 900.0
    """A route that was given up is not used for so long."""
    drain_s: Seconds = 15.0
    """From SIGTERM until unfinished requests are cut."""
    body_bytes_per_s_min: Annotated[int, Field(ge=0)] = 16 * 1024
    """A body that arrives slower than this is cut."""


class Telemetry(_Section):
    """What operators see of a running site."""

    listen: Address | None = None
    """Address for /metrics, /healthz and /readyz in plain HTTP, `host:port`: loopback, or a network of operators only."""


class CopyPlace(_Section):
    """A place for copies of this site's decisions, in a region that a policy asks for: storage there, mounted here."""

    region: Jurisdiction
    """Where the storage is: a country (ISO 3166-1 alpha-2) or a part of one (3166-2). The operator says so."""
    directory: Path
    """Where copies are written, a file each."""
    mode: Literal["full", "hash"] = "full"
    """What may be written there: whole records, or hashes alone."""


class GatewaySettings(FileSettings):
    """Everything a site is configured with."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    site: SiteName
    """The site's name in the trust bundle."""
    jurisdiction: Jurisdiction
    """The country (ISO 3166-1 alpha-2, or 3166-2) whose law applies to the site."""
    operator: Annotated[str, Field(min_length=1, max_length=255)]
    """The legal person that runs the site."""
    trust_domain: Annotated[str, Field(pattern=_TRUST_DOMAIN)]
    """The organisation's SPIFFE trust domain."""
    url: GatewayUrl
    """Where agents and peers reach the site."""
    listen: Annotated[tuple[Address, ...], Field(min_length=1, max_length=16)] = ("0.0.0.0:8443",)
    """Addresses to listen on, `host:port` each."""
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], Field(max_length=32)] = ()
    """Further DNS names and addresses in the site's certificate, beside the url's."""
    data_dir: Path = Path()
    """The site directory; keys, catalog, store and log are in it."""
    credentials_dir: Path | None = None
    """Where signing.key, at-rest.key and issuing.key are read from instead of the site directory, if they are there."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    relaying: bool = True
    """Whether the site carries sealed transfers of others as a relay, where the trust bundle puts it on a route."""
    copies: Annotated[tuple[CopyPlace, ...], Field(max_length=16)] = ()
    """Places for copies of decisions, as `[[copies]]`."""
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    telemetry: Telemetry = Telemetry()

    @property
    def identity(self) -> SpiffeId:
        """The site's own identity."""
        return SpiffeId.make(self.trust_domain, self.site, "gateway", self.site)

    @property
    def log_origin(self) -> str:
        """The origin line of the site's log."""
        return f"{self.trust_domain}/site/{self.site}/log"

    @property
    def certificate_hosts(self) -> tuple[str, ...]:
        """All names and addresses that the site's certificate carries."""
        return tuple(dict.fromkeys((urlsplit(self.url).hostname or "", *self.hosts)))


def load_settings(directory: Path) -> GatewaySettings:
    """Return the settings of the site in `directory`, from its `gateway.toml` and the environment.

    Raises:
        CallerError: E-CONFIG if there is no such file, it is not TOML, or a key is unknown, missing or wrong; names the key.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        raise CallerError("E-CONFIG", f"no {FILE_NAME} in {directory}", remedy="create a site with `carnet-gateway init`")

    found = read_settings(GatewaySettings, path)
    base = path.parent.resolve()
    copies = tuple(place.model_copy(update={"directory": base / place.directory}) for place in found.copies)
    moved: dict[str, object] = {"data_dir": base / found.data_dir, "copies": copies}
    if found.credentials_dir is not None:
        moved["credentials_dir"] = base / found.credentials_dir
    return GatewaySettings.model_validate({**found.model_dump(), **moved})


def encode_settings(settings: GatewaySettings) -> str:
    """Return the text of a new `gateway.toml`: what differs from site to site, and where the rest is described."""
    quoted = {name: _toml_string(getattr(settings, name)) for name in ("site", "jurisdiction", "operator", "trust_domain", "url")}
    lines = ["# Settings of this site; docs/operations.md lists every key. Environment: CARNET_GATEWAY_<KEY>."]
    lines += [f"{name} = {value}" for name, value in quoted.items()]
    lines.append(f"listen = [{', '.join(_toml_string(address) for address in settings.listen)}]")
    lines.append(f"hosts = [{', '.join(_toml_string(host) for host in settings.hosts)}]")
    return "\n".join(lines) + "\n"


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < ord(" ") or char == "\x7f" else char for char in escaped) + '"'


def make_settings(values: Mapping[str, object]) -> GatewaySettings:
    """Return settings for a new site from what its operator gave; raise `CallerError` E-USAGE naming what is wrong."""
    try:
        return GatewaySettings.model_validate(values)
    except ValidationError as error:
        raise CallerError("E-USAGE", first_problem(error), remedy="carnet-gateway init --help") from None
