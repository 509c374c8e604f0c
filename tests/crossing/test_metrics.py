"""What a monitoring system reads of two sites after artifacts crossed between them."""

import socket
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.push import Wait
from carnet.errors import CallerError, CapacityError, NotFound
from gateway.settings import Telemetry
from tests.attacks.parties import noise
from tests.crossing.ports import free_port
from tests.crossing.sites import LiveSite, World

CANARY = "canary-9f2d"


@pytest.fixture
async def watched(world: World) -> World:
    """Both sites, each with a listener for metrics."""
    for site in (world.us, world.eu):
        await site.stop()
        site.telemetry = Telemetry(listen=f"127.0.0.1:{free_port()}")
    await world.eu.start()
    await world.us.start()
    return world


async def get(site: LiveSite, path: str, method: str = "GET") -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, f"http://{site.telemetry.listen}{path}") as response,
    ):
        return response.status, await response.text()


async def scraped(site: LiveSite) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and label values in the order of the labels' names, read strictly."""
    status, text = await get(site, "/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_crossed_is_counted_at_both_sites(watched: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 3_000_000)
    await watched.push(f"file:{source}", f"eu:{CANARY}:v1")
    us, eu = await scraped(watched.us), await scraped(watched.eu)

    assert us["carnet_transfers", "admitted"] == 1
    assert us["carnet_deliveries", "delivered"] == 1
    assert eu["carnet_transfers", "delivered"] == 1
    segments = us["carnet_segments_total", "in", "agents"]
    assert segments >= 3
    assert us["carnet_segments_total", "out", "eu"] == eu["carnet_segments_total", "in", "us"] == segments
    assert eu["carnet_segment_bytes_total", "in", "us"] == us["carnet_segment_bytes_total", "in", "agents"] > 3_000_000
    assert us["carnet_requests_total", "PUT", "transfers.put_segment", "201"] == segments
    assert us["carnet_log_entries",] > 0
    assert us["carnet_disk_free_bytes",] > us["carnet_disk_reserve_bytes",]
    assert us["carnet_disk_stopped",] == 0
    assert us["carnet_expiry_seconds", "tls-certificate"] > 20 * 24 * 3600
    assert {"issuing-ca", "kem-key", "kem-key/eu", "trust-bundle", "revocations/us", "revocations/eu"} <= {
        labels[1] for labels in us if labels[0] == "carnet_expiry_seconds"
    }
    assert us["carnet_revocation_set_age_seconds", "eu"] >= 0


async def test_no_series_names_an_artifact_an_agent_a_person_or_an_id(watched: World, tmp_path: Path) -> None:
    source = noise(tmp_path / CANARY, 10_000)
    result = await watched.push(
        f"file:{source}", f"eu:{CANARY}:{CANARY}", declare={"classification": "internal", "purpose": CANARY}
    )
    with pytest.raises(NotFound):
        await watched.push(f"file:{source}", f"{CANARY}:v1", declare={"classification": "internal"}, lane=CANARY)
    for site in (watched.us, watched.eu):
        _, text = await get(site, "/metrics")

        assert CANARY not in text
        assert str(result.view.transfer) not in text
        assert "spiffe:" not in text
        assert "agent/agent" not in text


async def test_a_limit_that_was_met_is_counted_by_its_name(watched: World, tmp_path: Path) -> None:
    await watched.us.stop()
    watched.us.limits = watched.us.limits.model_copy(update={"uncommitted_bytes_max": 1_000_000})
    await watched.us.start()
    with pytest.raises(CapacityError):
        await watched.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "app:v1")

    assert (await scraped(watched.us))["carnet_limit_hits_total", "uncommitted_bytes_max"] >= 1


async def test_a_delivery_whose_site_is_away_shows_in_jobs(watched: World, tmp_path: Path) -> None:
    await watched.eu.stop()
    await watched.push(f"file:{noise(tmp_path / 'a', 1_000)}", "eu:app:v1", wait=Wait.DECIDED)
    us = await scraped(watched.us)

    assert us["carnet_deliveries", "sending"] == 1
    assert us["carnet_jobs", "forward"] == 1
    assert us["carnet_job_attempts_max", "forward"] >= 0


async def test_the_listener_answers_three_paths_and_nothing_else(watched: World) -> None:
    assert await get(watched.us, "/healthz") == (200, '{"status":"alive"}')
    assert await get(watched.us, "/readyz") == (200, '{"status":"ready"}')
    for path, method in (("/", "GET"), ("/metrics", "POST"), ("/v1/trust", "GET"), ("/log/checkpoint", "GET")):
        assert (await get(watched.us, path, method))[0] == 404


async def test_an_address_that_is_taken_is_told_with_its_setting(world: World) -> None:
    await world.us.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        world.us.telemetry = Telemetry(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(CallerError, match=r"telemetry\.listen"):
            await world.us.start()
