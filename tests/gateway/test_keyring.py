"""Key files: who may read them, what they seal, and that numbers grow."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carnet.encoding import encode_base64
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, IntegrityError, NotFound
from carnet.trust import KemStatement
from gateway.keyring import FileKeyring, create_keys, kem_rotation_due, read_private_file, rotate_kem


@pytest.fixture
def keys(tmp_path):
    create_keys(tmp_path / "keys")
    return tmp_path / "keys"


def test_keys_are_made_for_their_owner_only(keys):
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}


def test_existing_keys_are_never_replaced(keys):
    before = (keys / "signing.key").read_bytes()

    with pytest.raises(CallerError):
        create_keys(keys)

    assert (keys / "signing.key").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
@pytest.mark.parametrize("name", ["signing.key", "at-rest.key"])
def test_a_key_file_that_others_can_read_is_refused_with_the_chmod(keys, name, mode):
    (keys / name).chmod(mode)

    with pytest.raises(CallerError) as caught:
        FileKeyring.load(keys)

    assert caught.value.code == "E-CONFIG"
    assert name in caught.value.problem
    assert caught.value.remedy == f"chmod 600 {keys / name}"


def test_a_key_directory_that_others_can_read_is_refused(keys):
    keys.chmod(0o750)

    with pytest.raises(CallerError, match="open to others"):
        FileKeyring.load(keys)


@pytest.mark.parametrize(
    "content", ["", "hunter2", "carnet-signing-key-1:AAAA\n", "x" * 5_000, "carnet-kem-key-1:" + "A" * 43 + "=\n"]
)
def test_a_damaged_key_file_is_named_and_not_shown(keys, content):
    (keys / "signing.key").write_text(content)

    with pytest.raises(CallerError) as caught:
        FileKeyring.load(keys)

    assert "signing.key" in caught.value.problem
    assert content.strip() not in caught.value.problem or not content


def test_a_missing_key_file_is_named(keys):
    (keys / "at-rest.key").unlink()

    with pytest.raises(CallerError, match=r"at-rest\.key"):
        FileKeyring.load(keys)


def test_static_keys_come_from_the_credentials_directory_if_they_are_there(keys, tmp_path):
    create_keys(tmp_path / "credentials")

    found = FileKeyring.load(keys, credentials=tmp_path / "credentials")

    assert found.signing == FileKeyring.load(tmp_path / "credentials").signing
    assert found.signing != FileKeyring.load(keys).signing


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(secret=st.binary(max_size=200), context=st.binary(max_size=40))
def test_what_is_sealed_opens_under_the_same_context(keys, secret, context):
    keyring = FileKeyring.load(keys)

    assert FileKeyring.load(keys).open(keyring.seal(secret, context), context) == secret


def test_sealing_the_same_secret_twice_differs(keys):
    keyring = FileKeyring.load(keys)

    assert keyring.seal(b"secret", b"") != keyring.seal(b"secret", b"")


def test_any_flipped_bit_or_other_context_does_not_open(keys):
    keyring = FileKeyring.load(keys)
    sealed = keyring.seal(b"artifact key", b"transfer 1")

    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(IntegrityError):
            keyring.open(changed, b"transfer 1")
    for context in (b"", b"transfer 2"):
        with pytest.raises(IntegrityError):
            keyring.open(sealed, context)
    with pytest.raises(IntegrityError):
        keyring.open(sealed[:20], b"transfer 1")


def test_kem_numbers_grow_and_survive_a_restart(keys):
    keyring = FileKeyring.load(keys)

    assert [keyring.add_kem(), keyring.add_kem()] == [1, 2]
    assert FileKeyring.load(keys).kem_numbers() == (1, 2)
    assert FileKeyring.load(keys).kem(2) == keyring.kem(2)


def test_a_kem_number_that_was_stated_is_never_used_again(keys):
    """Rule 3: also when its key file was destroyed since."""
    keyring = FileKeyring.load(keys)

    assert keyring.add_kem(8) == 8


def test_a_kem_key_that_is_not_here_is_not_found(keys):
    with pytest.raises(NotFound) as caught:
        FileKeyring.load(keys).kem(7)

    assert caught.value.code == "E-KEY-RELEASE"


def test_no_key_shows_in_a_repr(keys):
    keyring = FileKeyring.load(keys)
    keyring.add_kem()

    shown = repr(keyring)

    assert encode_base64(keyring.signing.seed) not in shown
    assert keyring.signing.seed.hex() not in shown


def test_a_private_file_of_any_kind_is_held_to_the_same_rule(tmp_path):
    path = tmp_path / "root.key"
    path.write_text("text")
    path.chmod(0o644)

    with pytest.raises(CallerError, match="can be read by others"):
        read_private_file(path)


async def test_rotation_states_logs_and_keeps_the_old_key(world):
    issued = await rotate_kem(world.catalog, world.keyring, world.settings.site, world.clock.now())

    assert issued.statement.number == 2
    assert world.keyring.kem_numbers() == (1, 2)
    document = await world.catalog.read(lambda transaction: transaction.site_document("kem/us/2"))
    stated = KemStatement.open(parse_envelope(document), [world.keyring.signing.public])
    assert stated.key == world.keyring.kem(2).public
    entry = await world.catalog.read(lambda transaction: transaction.log_entry(issued.log_index))
    assert EntryType.KEM_KEY_ISSUED.encode() in entry.entry


async def test_rotation_is_due_at_two_thirds_of_a_statements_life_or_without_one(world):
    issued = await rotate_kem(world.catalog, world.keyring, world.settings.site, world.clock.now())

    assert kem_rotation_due(None, world.clock.now())
    assert not kem_rotation_due(issued.statement, world.clock.now() + timedelta(days=19))
    assert kem_rotation_due(issued.statement, world.clock.now() + timedelta(days=21))
