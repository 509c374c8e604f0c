import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.checkpoint import Checkpoint, log_origin, sign_checkpoint
from carnet.entries import EntryType, LogEvent, commit_event
from carnet.envelope import Envelope
from carnet.errors import CarnetError, IntegrityError, NotAuthorised, NotFound, PeerError
from carnet.identifiers import PassageId, SiteName
from carnet.packing import SegmentList
from carnet.proof import EntryProof
from carnet.routing import RoutingSlip, encode_segments, neighbours, open_slip, require_listed
from carnet.trust import Carriage, Route
from tests.carnet.samples import AT, DOMAIN, EU, PASSAGE, SG, SITE_KEYS, US, relayed_bundle, segment, slip

JP = SiteName("jp")


def proof_of(made, *, signer=US, kind=EntryType.SLIP_SIGNED, **fields):
    said = {"slip": str(made.digest), "passage": str(made.passage)} | fields
    entry = commit_event(LogEvent(kind, AT, said), lambda: b"\1" * 32)
    head = sign_checkpoint(Checkpoint(log_origin(DOMAIN, signer), 1, entry.leaf_hash), SITE_KEYS[signer])
    return EntryProof.make(entry, 0, [], head.encode())


def opened(made, *, signer=US, proof=None, site=SG, passage=PASSAGE, bundle=None):
    return open_slip(
        made.sign(SITE_KEYS[signer]), proof or proof_of(made), bundle=bundle or relayed_bundle(), passage=passage, site=site
    )


def test_a_slip_of_the_site_before_is_taken():
    assert opened(slip()) == slip()
    assert (slip().sender, slip().next, slip().origin, slip().destination) == (US, EU, US, EU)


def test_a_slip_says_nothing_of_names_or_digests():
    assert set(slip().to_json()) == {
        *("v", "transfer", "passage", "number", "lane", "way", "site", "carriage", "deadline", "delete_by", "segments", "at"),
    }


def test_the_next_slip_carries_the_same_and_gives_no_more_time():
    following = slip().for_next("2026-11-24T12:30:00Z")

    assert (following.site, following.sender, following.next) == (EU, SG, None)
    assert (following.segments, following.deadline, following.delete_by) == (
        slip().segments,
        slip().deadline,
        slip().delete_by,
    )


def test_a_slip_that_withdraws_carries_nothing_and_withdraws_at_the_next_site_too():
    made = slip(deadline=AT, delete_by=AT, segments="")

    assert made.is_withdrawal
    assert made.for_next("2026-11-24T12:30:00Z").is_withdrawal
    assert made.for_next("2026-11-24T09:00:00Z").is_withdrawal, "the relay's clock is behind"
    assert not slip().is_withdrawal
    with pytest.raises(ValueError, match="carries nothing"):
        slip(deadline=AT, delete_by=AT)


def test_nothing_follows_the_destination():
    with pytest.raises(ValueError, match="ends here"):
        slip(site=EU).for_next(AT)


@pytest.mark.parametrize("signer", [SG, EU])
def test_a_slip_that_another_site_signed_is_refused(signer):
    with pytest.raises(IntegrityError, match="E-SIGNATURE"):
        opened(slip(), signer=signer)


def test_a_slip_for_another_site_or_passage_is_refused():
    with pytest.raises(IntegrityError, match="E-SIGNATURE"):
        opened(slip(), site=EU)
    with pytest.raises(IntegrityError, match="E-SIGNATURE"):
        opened(slip(), passage=PassageId("0" * 32))


@pytest.mark.parametrize(
    "proof",
    [
        proof_of(slip(number=2)),
        proof_of(slip(), passage="0" * 32),
        proof_of(slip(), kind=EntryType.SLIP_TAKEN),
        proof_of(slip(), signer=SG),
    ],
    ids=["another slip", "another passage", "another entry", "another log"],
)
def test_a_slip_that_its_signer_did_not_log_is_refused(proof):
    with pytest.raises(CarnetError, match=r"E-PROOF|E-SIGNATURE|E-FORMAT"):
        opened(slip(), proof=proof)


@pytest.mark.parametrize(
    "routes",
    [(Route(),), (Route(relays=(SG,), carriage=Carriage.STORE),)],
    ids=["direct only", "another carriage"],
)
def test_a_way_that_is_no_route_of_the_lane_is_refused(routes):
    with pytest.raises(NotAuthorised, match="E-NOT-ALLOWED"):
        opened(slip(), bundle=relayed_bundle(routes=routes))


def test_a_way_against_the_direction_of_the_lane_is_refused():
    made = slip(way=(EU, SG, US))

    with pytest.raises(NotAuthorised, match="no route"):
        opened(made, signer=EU, proof=proof_of(made, signer=EU))


def test_a_lane_or_site_that_the_bundle_does_not_name_is_refused():
    with pytest.raises(NotFound, match="E-LANE-UNKNOWN"):
        opened(slip(lane="us-jp"))
    with pytest.raises(NotFound, match="E-SITE-UNKNOWN"):
        opened(slip(way=(JP, SG, EU)))


@pytest.mark.parametrize(
    "changes",
    [
        {"site": US},
        {"site": JP},
        {"way": (US, EU)},
        {"way": (US, SG, US)},
        {"deadline": "2026-11-24T11:59:59Z"},
        {"delete_by": "2026-11-24T12:59:59Z"},
        {"segments": "AAAA"},
        {"number": -1},
        {"carriage": "by hand"},
    ],
)
def test_what_is_no_slip_is_no_slip(changes):
    with pytest.raises(ValueError):
        slip(**changes)


def test_a_slip_that_is_not_canonical_is_refused():
    with pytest.raises(PeerError, match="E-FORMAT"):
        RoutingSlip.read_unverified(Envelope(RoutingSlip.payload_type, slip().payload().replace(b":", b": ", 1), ()))


@given(
    st.lists(st.tuples(st.integers(0, 2**64), st.integers(1, 1_000_000)), max_size=20, unique_by=lambda one: one[0]),
    st.integers(0, 2**53 - 1),
)
@settings(max_examples=50)
def test_a_slip_survives_its_encoding(segments, number):
    made = slip(number=number, segments=encode_segments(SegmentList.of((segment(one), size) for one, size in segments)))

    found = RoutingSlip.read_unverified(made.sign(SITE_KEYS[US]))

    assert found == made
    assert {(one.id, one.size) for one in found.segment_list()} == {(segment(one), size) for one, size in segments}


def test_what_is_on_the_signed_list_or_a_page_may_be_on_a_slip():
    require_listed(slip(), SegmentList.of([(segment(1), 70_000)]), {segment(2): 1_000_000})


@pytest.mark.parametrize("listed", [[(segment(1), 70_000)], [(segment(1), 70_000), (segment(2), 1_000_001)]])
def test_a_segment_that_nobody_signed_for_is_smuggled(listed):
    with pytest.raises(NotFound, match="E-SEGMENT-UNKNOWN"):
        require_listed(slip(), SegmentList.of(listed), {})


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True), st.data())
def test_neighbours_are_who_stands_beside(way, data):
    place = data.draw(st.integers(0, len(way) - 1))

    before, after = neighbours(way, way[place])

    assert ([before] if before else []) == way[max(place - 1, 0) : place]
    assert ([after] if after else []) == way[place + 1 : place + 2]
