import pytest

from carnet import paths
from carnet.errors import NotAuthorised, NotFound
from carnet.identifiers import Repository, Tag
from gateway.http import artifacts, log, transfers
from gateway.http.routes import ROUTES, match_for, open_match
from tests.carnet.samples import EU, TRANSFER, segment
from tests.gateway.http.world import agent_id, gateway_id

AGENT, PEER = agent_id(), gateway_id(EU)


@pytest.mark.parametrize(
    ("identity", "method", "path", "handler", "names"),
    [
        (AGENT, "GET", paths.transfer(TRANSFER), transfers.show, {"transfer": TRANSFER}),
        (AGENT, "PUT", paths.transfer_segment(TRANSFER, segment(1)), transfers.put_segment, {"segment": segment(1)}),
        (PEER, "PUT", paths.transfer_segment(TRANSFER, segment(1)), transfers.put_forwarded, {"segment": segment(1)}),
        (AGENT, "GET", paths.transfer_action(TRANSFER, "rows"), transfers.rows, {}),
        (AGENT, "POST", paths.transfer_action(TRANSFER, "commit"), transfers.commit, {}),
        (PEER, "POST", paths.transfer_action(TRANSFER, "commit"), transfers.commit_forwarded, {}),
        (PEER, "POST", paths.transfer_action(TRANSFER, "messages"), transfers.message, {}),
        (AGENT, "GET", paths.segment(segment(5)), artifacts.segment, {"segment": segment(5)}),
        (PEER, "GET", paths.log_file("checkpoint"), log.checkpoint, {}),
        (PEER, "GET", paths.log_file("tile/entries/x001/234.p/7"), log.tile, {"tile": "entries/x001/234.p/7"}),
    ],
)
def test_what_the_client_builds_the_server_matches(identity, method, path, handler, names):
    match = match_for(identity, method, path)
    assert match.route.handler is handler
    assert names.items() <= match.names.items()


@pytest.mark.parametrize("repository", ["app", "team/app", "a/b/c/d.e__f-g"])
def test_a_repository_may_have_slashes(repository):
    match = match_for(AGENT, "DELETE", paths.artifact(Repository(repository), Tag("v1.0_x-y")))
    assert match.names == {"repository": repository, "tag": "v1.0_x-y"}


@pytest.mark.parametrize("path", ["/v1/transfers/", "/v1/transfers\n", "/V1/trust", "/log/tile/64/000", "/log/tile/0/0000", ""])
def test_what_no_pattern_matches_whole_is_not_found(path):
    with pytest.raises(NotFound, match="E-PATH-UNKNOWN"):
        match_for(AGENT, "GET", path)


def test_a_line_for_others_is_not_allowed_rather_than_not_found():
    with pytest.raises(NotAuthorised, match="E-NOT-ALLOWED"):
        match_for(PEER, "POST", paths.RENEW)


def test_only_enrolment_and_health_are_open():
    openly = {(route.method, route.pattern.pattern) for route in ROUTES if not route.audience}
    assert openly == {("POST", paths.ENROLL), ("GET", paths.HEALTH), ("GET", paths.READY)}
    assert open_match("GET", paths.TRUST) is None


def test_only_requests_that_carry_something_may_have_a_body():
    assert {route.method for route in ROUTES if route.body_bytes_max} == {"POST", "PUT"}
