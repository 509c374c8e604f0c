"""Who seals and who holds a key on a lane; "rule" numbers are those of carnet/lane_mode.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.envelope import Envelope
from carnet.lane_mode import keyholders, open_packing, require_mode
from carnet.packing import PackingList
from carnet.release import site_recipient
from carnet.trust import LaneMode, TrustBundle
from tests.carnet.samples import DOMAIN, EU, SITE_KEYS, US, bundle, digest, lane, outcome, packing_list, signing_key, waybill

ORIGINATOR = signing_key(7)
SITE = site_recipient(DOMAIN, US)


def under(mode: LaneMode) -> TrustBundle:
    return bundle(lanes=(lane(mode=mode),))


def sealed_for(mode: LaneMode, **changes: object) -> PackingList:
    sites = (US, EU) if mode is LaneMode.INSPECTED else (EU,)
    return packing_list(**({"sites": sites} | changes))


def opened(envelope: Envelope, mode: LaneMode) -> tuple[PackingList | None, str | None]:
    return outcome(lambda: open_packing(envelope, waybill(), ORIGINATOR.public, under(mode)))


@pytest.mark.parametrize("mode", LaneMode)
def test_the_originator_seals_on_every_lane(mode: LaneMode) -> None:
    packing = sealed_for(mode)

    assert opened(packing.sign(ORIGINATOR), mode) == (packing, None)
    assert outcome(lambda: require_mode(packing, lane(mode=mode), (EU,))) == (None, None)


def test_the_origin_site_seals_on_an_inspected_lane_only() -> None:
    packing = sealed_for(LaneMode.INSPECTED, sealer=SITE)
    envelope = packing.sign(SITE_KEYS[US])

    assert opened(envelope, LaneMode.INSPECTED) == (packing, None)
    assert opened(envelope, LaneMode.SEALED) == (None, "E-LANE-MODE")


@pytest.mark.parametrize("mode", LaneMode)
@pytest.mark.parametrize(
    ("sealer", "key"),
    [
        (waybill().origin.agent, SITE_KEYS[US]),
        (waybill().origin.agent, SITE_KEYS[EU]),
        (site_recipient(DOMAIN, EU), SITE_KEYS[EU]),
        (site_recipient("other.example", US), SITE_KEYS[US]),
    ],
)
def test_rule_1_the_sealer_is_who_signed_and_may_seal(mode: LaneMode, sealer: str, key: object) -> None:
    envelope = sealed_for(mode, sealer=sealer).sign(key)  # type: ignore[arg-type]

    assert opened(envelope, mode) == (None, "E-SIGNATURE")


def test_rule_1_the_originator_does_not_seal_in_the_name_of_the_site() -> None:
    envelope = sealed_for(LaneMode.INSPECTED, sealer=SITE).sign(ORIGINATOR)

    assert opened(envelope, LaneMode.INSPECTED) == (None, "E-SIGNATURE")


@pytest.mark.parametrize("changes", [{"waybill": digest("another")}, {"transfer": "f" * 32}])
def test_rule_2_it_seals_this_waybill(changes: dict[str, object]) -> None:
    envelope = sealed_for(LaneMode.SEALED, **changes).sign(ORIGINATOR)

    assert opened(envelope, LaneMode.SEALED) == (None, "E-SIGNATURE")


@pytest.mark.parametrize("mode", LaneMode)
def test_rule_3_what_was_sealed_for_one_mode_is_not_of_the_other(mode: LaneMode) -> None:
    other = next(one for one in LaneMode if one is not mode)

    assert outcome(lambda: require_mode(sealed_for(mode), lane(mode=other), (EU,)))[1] == "E-LANE-MODE"


@given(
    mode=st.sampled_from(LaneMode),
    sites=st.lists(st.sampled_from(["us", "eu", "jp", "uk"]), min_size=1, unique=True),
    destinations=st.lists(st.sampled_from(["eu", "jp", "uk"]), min_size=1, unique=True),
)
def test_rule_3_only_the_keyholders_are_right_and_the_origin_is_one_exactly_on_inspected_lanes(
    mode: LaneMode, sites: list[str], destinations: list[str]
) -> None:
    on = lane(mode=mode, destinations=("eu", "jp", "uk"))
    holders = keyholders(on, destinations)  # type: ignore[arg-type]

    assert (US in holders) == (mode is LaneMode.INSPECTED)
    assert set(holders) - {US} == set(destinations)
    found = outcome(lambda: require_mode(packing_list(sites=tuple(sites)), on, destinations))[1]  # type: ignore[arg-type]
    assert (found is None) == (set(sites) == set(holders))
    assert found in {None, "E-LANE-MODE", "E-SIGNATURE"}
