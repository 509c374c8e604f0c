"""A new site directory, its certificate over time, bundles from proposal to import, and the site for trying out."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from carnet.entries import EntryType
from carnet.errors import CallerError
from carnet.identifiers import LaneName, SiteName
from carnet.identity import FILE_BYTES_MAX, AgentIdentity
from carnet.keys import SigningKey, encode_public_key
from carnet.trust import LaneMode, SiteCard, TrustBundle
from gateway.dev import prepare
from gateway.offline import create_site, open_site
from gateway.policies import PolicyBook
from gateway.proposals import (
    Change,
    amend,
    check_roles,
    parse_floor,
    parse_lane,
    parse_person,
    parse_public,
    propose,
    read_card,
    read_proposal,
    signed_roots,
    unmet_floors,
    unsigned,
)
from gateway.settings import make_settings
from gateway.sitedir import SitePaths, first_policy, load_authority, renew_own_certificate

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def settings_for(site="us", **more):
    given = {"site": site, "jurisdiction": "US", "operator": "Example Corp", "trust_domain": "example.com"}
    return make_settings({**given, "url": "https://localhost:8443", "hosts": ("127.0.0.1",), **more})


async def site_in(directory, site="us"):
    settings = settings_for(site)
    await create_site(directory, settings, first_policy(), NOW)
    return SitePaths(directory), settings


def leaf_in(paths):
    return x509.load_pem_x509_certificates(paths.tls_certificate.read_bytes())[0]


def root_key():
    return SigningKey(secrets.token_bytes(32))


async def first_bundle(directory, **more):
    paths, _ = await site_in(directory)
    return propose(None, Change(roots=(root_key().public,), threshold=1, cards=(read_card(paths.card),), **more), NOW)


# the directory


async def test_a_new_site_opens_and_its_log_begins_with_its_creation(tmp_path):
    await site_in(tmp_path / "us")

    async with open_site(tmp_path / "us") as site:
        first = await site.catalog.read(lambda transaction: transaction.log_entry(0).entry)
        assert EntryType.SITE_CREATED.encode() in first
        assert site.keyring().kem_numbers() == (1,)
        assert site.trust.current() is None


async def test_only_the_owner_can_read_what_a_site_keeps(tmp_path):
    await site_in(tmp_path / "us")

    for path in (tmp_path / "us").rglob("*"):
        if path.suffix in {".key", ".toml"} or path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path


async def test_the_site_card_holds_public_values_only(tmp_path):
    paths, _ = await site_in(tmp_path / "us")

    card = read_card(paths.card)

    assert set(card.to_json()) == set(SiteCard.model_fields)
    assert "PRIVATE" not in paths.card.read_text()


async def test_a_directory_that_holds_a_site_or_part_of_one_is_left_alone(tmp_path):
    paths, settings = await site_in(tmp_path / "us")
    before = paths.authority_key.read_bytes()

    with pytest.raises(CallerError):
        await create_site(tmp_path / "us", settings, first_policy(), NOW)
    (tmp_path / "us" / "gateway.toml").unlink()
    with pytest.raises(CallerError):
        await create_site(tmp_path / "us", settings, first_policy(), NOW)

    assert paths.authority_key.read_bytes() == before


async def test_the_first_policy_is_sound(tmp_path):
    paths, _ = await site_in(tmp_path / "us")

    assert PolicyBook(paths.policy).digest


# the certificate


async def test_the_site_shows_its_issuing_ca_so_that_invites_can_pin_it(tmp_path):
    paths, _ = await site_in(tmp_path / "us")

    chain = x509.load_pem_x509_certificates(paths.tls_certificate.read_bytes())

    assert chain[1] == load_authority(paths).certificate


@pytest.mark.parametrize(
    ("age", "renewed"),
    [(timedelta(0), False), (timedelta(days=19), False), (timedelta(days=21), True), (timedelta(days=40), True)],
)
async def test_the_certificate_is_renewed_at_two_thirds_of_its_life(tmp_path, age, renewed):
    paths, settings = await site_in(tmp_path / "us")
    before = leaf_in(paths)

    assert renew_own_certificate(paths, settings, load_authority(paths), NOW + age) is renewed
    assert (leaf_in(paths) != before) is renewed


async def test_a_certificate_for_other_hosts_is_replaced(tmp_path):
    paths, _ = await site_in(tmp_path / "us")

    assert renew_own_certificate(paths, settings_for(hosts=("gateway.example.com",)), load_authority(paths), NOW)


async def test_a_pair_torn_by_a_crash_is_replaced(tmp_path):
    paths, settings = await site_in(tmp_path / "us")
    other, _ = await site_in(tmp_path / "other")
    paths.tls_key.write_bytes(other.tls_key.read_bytes())

    assert renew_own_certificate(paths, settings, load_authority(paths), NOW)
    assert not renew_own_certificate(paths, settings, load_authority(paths), NOW)


async def test_a_ca_key_that_others_can_read_is_refused(tmp_path):
    paths, _ = await site_in(tmp_path / "us")
    paths.authority_key.chmod(0o644)

    with pytest.raises(CallerError, match="read by others"):
        load_authority(paths)


# proposals


async def test_a_proposal_follows_the_bundle_before_and_keeps_what_is_not_changed(tmp_path):
    first = await first_bundle(tmp_path / "us")
    eu, _ = await site_in(tmp_path / "eu", "eu")

    second = propose(first, Change(cards=(read_card(eu.card),), lanes=(parse_lane("out=us:eu"),)), NOW)

    assert (first.version, second.version) == (1, 2)
    assert {site.name for site in second.sites} == {"us", "eu"}
    assert second.roots == first.roots


async def test_an_amended_proposal_keeps_its_version_and_loses_its_signatures(tmp_path):
    root = root_key()
    first = await first_bundle(tmp_path / "us")
    signed = unsigned(first).with_signature(root)

    changed = amend(first, Change(people=(parse_person(f"ann={root_key().public.hex}:security"),)), NOW)

    assert changed.version == first.version
    assert signed.payload != unsigned(changed).payload
    assert unsigned(changed).signatures == ()


async def test_an_entry_of_the_same_name_is_replaced_and_without_removes(tmp_path):
    first = await first_bundle(tmp_path / "us", people=(parse_person(f"ann={root_key().public.hex}:legal"),))

    moved = propose(first, Change(people=(parse_person(f"ann={root_key().public.hex}:security"),)), NOW)
    gone = propose(moved, Change(without=("ann",)), NOW)

    assert [person.roles for person in moved.people] == [("security",)]
    assert gone.people == ()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (Change(), "needs its roots"),
        (Change(roots=(root_key().public,)), "at least one site"),
    ],
)
def test_a_first_bundle_without_roots_or_sites_is_refused(change, named):
    with pytest.raises(CallerError, match=named):
        propose(None, change, NOW)


async def test_what_does_not_fit_together_is_refused_before_anyone_signs(tmp_path):
    first = await first_bundle(tmp_path / "us")
    for change in (
        Change(lanes=(parse_lane("out=us:mars"),)),
        Change(threshold=2),
        Change(people=(parse_person(f"eve={first.sites[0].signing_key.hex}:x"),)),
    ):
        with pytest.raises(CallerError) as caught:
            propose(first, change, NOW)
        assert caught.value.code == "E-USAGE"


async def test_a_root_key_is_nobody_elses_key(tmp_path):
    root = root_key()
    card = read_card((await site_in(tmp_path / "us"))[0].card)
    person = parse_person(f"ann={root.public.hex}:security")

    for change, named in (
        (Change(roots=(root.public,), cards=(card,), people=(person,)), "a key of ann too"),
        (Change(roots=(card.signing_key,), cards=(card,)), "the signing key of site us too"),
    ):
        with pytest.raises(CallerError, match=named) as caught:
            propose(None, change, NOW)
        assert caught.value.code == "E-USAGE"


async def test_what_is_not_there_cannot_be_left_out_and_nothing_is_given_twice(tmp_path):
    first = await first_bundle(tmp_path / "us")
    twice = tuple(parse_person(f"ann={root_key().public.hex}:{role}") for role in ("legal", "security"))

    with pytest.raises(CallerError, match="no site, lane or person 'ghost' to leave out"):
        propose(first, Change(without=("ghost",)), NOW)
    with pytest.raises(CallerError, match="person ann is given twice"):
        propose(first, Change(people=twice), NOW)


async def test_a_role_is_usual_or_known_before_or_said_to_be_new(tmp_path):
    first = await first_bundle(tmp_path / "us", people=(parse_person(f"ann={root_key().public.hex}:pilot"),))

    def change(role):
        return Change(people=(parse_person(f"bob={root_key().public.hex}:{role}"),))

    check_roles(None, change("security"), ())
    check_roles(first, change("pilot"), ())
    check_roles(first, change("navigator"), ("navigator",))
    for wrong in (change("securty"), Change(floors=(parse_floor("out=securty:1"),))):
        with pytest.raises(CallerError, match="no role is called securty") as caught:
            check_roles(first, wrong, ())
        assert "--new-role securty" in caught.value.remedy


async def test_a_floor_that_too_few_people_could_meet_is_named(tmp_path):
    eu, _ = await site_in(tmp_path / "eu", "eu")
    people = (parse_person(f"ann={root_key().public.hex}:security"),)
    first = await first_bundle(tmp_path / "us", people=people)
    change = Change(cards=(read_card(eu.card),), lanes=(parse_lane("out=us:eu"),), floors=(parse_floor("out=security:2"),))

    assert unmet_floors(propose(first, change, NOW)) == ["lane out asks for 2 of security, a role that 1 of the bundle hold"]
    assert unmet_floors(first) == []


async def test_a_new_site_takes_no_directory_that_holds_something_else(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear reader")
    (tmp_path / "file").write_text("")

    with pytest.raises(CallerError, match=r"holds other files: letter\.txt"):
        await site_in(tmp_path / "mine")
    with pytest.raises(CallerError, match="is not a directory"):
        await site_in(tmp_path / "file")
    (tmp_path / "empty" / "lost+found").mkdir(parents=True)
    await site_in(tmp_path / "empty")

    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


async def test_sites_of_two_trust_domains_do_not_share_a_bundle(tmp_path):
    first = await first_bundle(tmp_path / "us")
    card = read_card((await site_in(tmp_path / "eu", "eu"))[0].card).model_copy(update={"trust_domain": "other.example"})

    with pytest.raises(CallerError, match="trust domains"):
        propose(first, Change(cards=(card,)), NOW)


async def test_all_roots_must_sign_unless_a_threshold_is_given(tmp_path):
    paths, _ = await site_in(tmp_path / "us")
    keys = (root_key().public, root_key().public)

    assert propose(None, Change(roots=keys, cards=(read_card(paths.card),)), NOW).roots.threshold == 2


async def test_the_roots_that_signed_are_counted(tmp_path):
    paths, _ = await site_in(tmp_path / "us")
    one, two = root_key(), root_key()
    bundle = propose(None, Change(roots=(one.public, two.public), cards=(read_card(paths.card),)), NOW)

    signed = unsigned(bundle).with_signature(two).with_signature(root_key())

    assert signed_roots(signed, bundle) == (two.public,)


def test_lanes_are_inspected_unless_said_to_be_sealed():
    assert parse_lane("out=us:eu,jp").destinations == (SiteName("eu"), SiteName("jp"))
    assert parse_lane("out=us:eu").mode is LaneMode.INSPECTED
    assert parse_lane("out=us:eu:sealed").mode is LaneMode.SEALED
    assert parse_lane("out=us:eu").name == LaneName("out")


@pytest.mark.parametrize(
    "text",
    ["", "out", "out=us", "=us:eu", "out=us:eu:open", "out=us:eu:sealed:x:y", "out=us:eu:sealed:x@y", "OUT=us:eu", "out=us:"],
)
def test_what_is_no_lane_is_refused(text):
    with pytest.raises(CallerError):
        parse_lane(text)


@pytest.mark.parametrize("text", ["", "ann", "ann=", "ann=:security", "ann=nofile:security", "=00:security"])
def test_what_is_no_person_is_refused(text):
    with pytest.raises(CallerError):
        parse_person(text)


def test_a_public_key_is_taken_as_file_line_or_hex(tmp_path):
    key = root_key().public
    (tmp_path / "root.pub").write_text(encode_public_key(key))

    given = [str(tmp_path / "root.pub"), encode_public_key(key).strip(), key.hex]

    assert [parse_public(text) for text in given] == [key, key, key]


def test_a_private_key_file_is_not_taken_for_a_public_one(tmp_path):
    from carnet.keys import encode_private_key

    (tmp_path / "root.key").write_text(encode_private_key(root_key()))

    with pytest.raises(CallerError) as caught:
        parse_public(str(tmp_path / "root.key"))
    assert "carnet-signing-key" not in caught.value.problem


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100])
def test_files_that_are_no_card_and_no_bundle_are_named(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)

    for read in (read_card, read_proposal):
        with pytest.raises(CallerError) as caught:
            read(path)
        assert str(path) in caught.value.problem


# the site for trying out


async def test_the_site_for_trying_out_has_everything_and_keeps_it(tmp_path):
    first = await prepare(tmp_path / "dev", None)
    agent = _agent_in(tmp_path / "dev")

    again = await prepare(tmp_path / "dev", None)

    assert set(first.announcement) == {"url", "registry", "console", "ca", "cert", "key", "person", "config"}
    assert _agent_in(tmp_path / "dev") == agent
    assert again.settings.listen[0] == f"127.0.0.1:{again.announcement['url'].rpartition(':')[2]}"
    async with open_site(tmp_path / "dev") as site:
        assert site.trust.current().site(SiteName("dev")).urls == (again.announcement["url"],)


async def test_the_person_of_the_site_for_trying_out_may_all_but_approve(tmp_path):
    await prepare(tmp_path / "dev", None)

    async with open_site(tmp_path / "dev") as site:
        records = await site.catalog.read(lambda transaction: transaction.identities())
        people = [record for record in records if record.kind == "person"]
        bundle = site.trust.current()

    assert [grant for record in people for grant in record.grants] == ["push,pull,delete,inspect,admin:*@*"]
    assert all("approver" not in person.roles for person in bundle.people)
    assert isinstance(bundle, TrustBundle)


async def test_a_real_site_is_not_served_as_one_for_trying_out(tmp_path):
    await site_in(tmp_path / "us")

    with pytest.raises(CallerError, match="holds site us"):
        await prepare(tmp_path / "us", None)


async def test_a_port_that_is_taken_is_named(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CallerError, match="is taken"):
            await prepare(tmp_path / "dev", taken.getsockname()[1])


def _agent_in(directory):
    identity = directory / "agent" / "identity"
    return AgentIdentity.parse({name: (identity / name).read_bytes() for name in FILE_BYTES_MAX})


async def test_a_lane_given_anew_keeps_its_floor_unless_another_is_given(tmp_path):
    eu, _ = await site_in(tmp_path / "eu", "eu")
    change = Change(
        cards=(read_card(eu.card),),
        lanes=(parse_lane("out=us:eu"),),
        floors=(parse_floor("out=security:2,export-control:1"),),
    )
    first = propose(await first_bundle(tmp_path / "us"), change, NOW)
    assert [(one.role, one.count) for one in first.lane("out").release_floor.approvals] == [
        ("security", 2),
        ("export-control", 1),
    ]

    again = propose(first, Change(lanes=(parse_lane("out=us:eu:sealed"),)), NOW)
    assert again.lane("out").release_floor == first.lane("out").release_floor
    assert propose(first, Change(floors=(parse_floor("out=none"),)), NOW).lane("out").release_floor.approvals == ()
    with pytest.raises(CallerError):
        propose(first, Change(floors=(parse_floor("in=security:1"),)), NOW)


@pytest.mark.parametrize(
    "text", ["out", "out=", "out=security", "out=security:0", "out=security:x", "=security:1", "out=Security:1"]
)
def test_a_floor_that_is_none_is_refused(text):
    with pytest.raises(CallerError):
        parse_floor(text)
