"""The identity directory: private, whole, and never back to an older bundle."""

import shutil
import stat
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.enroll import enroll
from agent.identity import advance_trust, load_identity, save_identity
from carnet.encoding import encode_base64
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, CarnetError, IntegrityError
from carnet.identifiers import Digest
from carnet.identity import FILE_BYTES_MAX, AgentIdentity


def now():
    return datetime.now(UTC)


@pytest.fixture
async def enrolled(live, tmp_path):
    directory = tmp_path / "identity"
    return directory, await enroll(await live.invite(), directory, now())


async def test_the_directory_and_every_file_are_the_owners_only(enrolled):
    directory, _ = enrolled

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name for path in directory.iterdir()} == set(FILE_BYTES_MAX)
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("name", sorted(FILE_BYTES_MAX))
async def test_a_file_that_others_can_read_is_refused_with_the_chmod(enrolled, name):
    directory, _ = enrolled
    (directory / name).chmod(0o640)

    with pytest.raises(CallerError) as caught:
        load_identity(directory)

    assert caught.value.remedy == f"chmod 600 {directory / name}"


async def test_a_directory_that_others_can_read_is_refused(enrolled):
    directory, _ = enrolled
    directory.chmod(0o755)

    with pytest.raises(CallerError, match="open to others"):
        load_identity(directory)


async def test_no_directory_and_an_unfinished_one_are_no_identity(enrolled, tmp_path):
    directory, _ = enrolled
    (directory / "identity.json").unlink()

    for place in (directory, tmp_path / "nowhere"):
        with pytest.raises(CallerError) as caught:
            load_identity(place)
        assert caught.value.code == "E-NOT-ENROLLED"


@pytest.mark.parametrize("name", sorted(FILE_BYTES_MAX))
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b"x" * 200])
async def test_a_damaged_file_is_refused_cleanly(enrolled, name, content):
    directory, _ = enrolled
    (directory / name).write_bytes(content)

    with pytest.raises(CarnetError):
        load_identity(directory)


async def test_a_file_of_another_identity_does_not_fit(enrolled, live, tmp_path):
    directory, _ = enrolled
    other = tmp_path / "other"
    await enroll(await live.invite("other"), other, now())
    for name in ("agent.key", "kem.key", "tls.pem", "statement.dsse"):
        mixed = tmp_path / f"mixed-{name}"
        shutil.copytree(directory, mixed)
        shutil.copy2(other / name, mixed / name)

        with pytest.raises(IntegrityError):
            load_identity(mixed)


async def test_the_configured_roots_must_be_the_pinned_ones(enrolled):
    directory, identity = enrolled

    assert load_identity(directory, root_fingerprint=identity.trust.pinned) == identity
    with pytest.raises(IntegrityError):
        load_identity(directory, root_fingerprint=Digest.of(b"others"))


async def test_a_newer_bundle_is_kept_and_an_older_one_refused(enrolled, live):
    directory, identity = enrolled
    newer = parse_envelope(await live.import_next())

    advanced = advance_trust(directory, identity, newer, now())

    assert advanced.trust.current.version == 2
    assert load_identity(directory) == advanced
    with pytest.raises(IntegrityError, match="not newer"):
        advance_trust(directory, advanced, identity.bundle, now())
    assert load_identity(directory) == advanced


async def test_the_same_bundle_changes_nothing(enrolled):
    directory, identity = enrolled
    before = (directory / "trust.dsse").stat().st_ino

    assert advance_trust(directory, identity, identity.bundle, now()) is identity
    assert (directory / "trust.dsse").stat().st_ino == before


async def test_an_identity_saved_elsewhere_is_the_same(enrolled, tmp_path):
    """Another machine with the same identity continues where the first stopped."""
    _, identity = enrolled
    save_identity(tmp_path / "copy", identity)

    assert load_identity(tmp_path / "copy") == identity


async def test_no_secret_shows_in_a_repr(enrolled):
    _, identity = enrolled

    shown = repr(identity)

    assert encode_base64(identity.signing_key.seed) not in shown
    assert "PRIVATE" not in shown


async def test_a_certificate_of_another_key_is_not_taken(enrolled):
    _, identity = enrolled
    key, mark, chain = identity.tls_pem.partition(b"-----BEGIN CERTIFICATE-----")
    from gateway.pki import encode_key, new_key

    torn = replace(identity, tls_pem=encode_key(new_key()) + mark + chain)

    with pytest.raises(IntegrityError):
        AgentIdentity.parse(torn.files())
    assert key
