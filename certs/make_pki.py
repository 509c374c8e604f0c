"""Write a throw-away development PKI of two sites to certs/dev: `make pki`, or `python certs/make_pki.py [DIRECTORY]`.

It is made by the code that makes a real one (`gateway.pki`), so what works with it works with a site's. An existing directory is
replaced only if this script made it. README.md beside this file says how production differs.
"""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from carnet.identifiers import SiteName, SpiffeId
from gateway.pki import Authority, encode_chain, encode_key, fingerprint, new_key

TRUST_DOMAIN = "dev.example"
SITES = (SiteName("us"), SiteName("eu"))
HOSTS = ("localhost", "127.0.0.1", "::1")
MARK = "made-by-make_pki"


def main() -> None:
    """Make the directory."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "dev")
    if out.exists():
        if not (out / MARK).exists():
            raise SystemExit(f"make_pki: {out} exists and was not made by this script; remove it or name another directory")
        shutil.rmtree(out)
    out.mkdir(mode=0o700, parents=True)
    (out / MARK).touch()
    now = datetime.now(UTC)
    for site in SITES:
        make_site(out / site, site, now)
    print(f"development PKI of {' and '.join(SITES)} in {out}; for trying out only")


def make_site(directory: Path, site: SiteName, now: datetime) -> None:
    """Write one site's CA, its gateway's certificate, an agent's and a person's."""
    directory.mkdir(mode=0o700)
    authority = Authority.create(site, now)
    write_pair(directory, "issuing", authority.pem, encode_key(authority.key))
    for kind, name in (("gateway", site), ("agent", "ci"), ("person", "operator")):
        key = new_key()
        identity = SpiffeId.make(TRUST_DOMAIN, site, kind, name)
        if kind == "gateway":
            leaf = authority.issue_gateway(identity, key.public_key(), HOSTS, now)
        else:
            leaf = authority.issue_client(identity, key.public_key(), now)
        write_pair(directory, kind, encode_chain(leaf, authority.certificate), encode_key(key))
        print(f"{identity}  until {leaf.not_valid_after_utc:%Y-%m-%d %H:%M}  {fingerprint(leaf)[:16]}")


def write_pair(directory: Path, name: str, certificate: bytes, key: bytes) -> None:
    """Write `name`.crt and, for its owner only, `name`.key."""
    (directory / f"{name}.crt").write_bytes(certificate)
    path = directory / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(key)


if __name__ == "__main__":
    main()
