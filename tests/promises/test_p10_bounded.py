"""P10: the memory of a serving process does not grow with the size of an artifact."""

from pathlib import Path

import pytest

from tests.promises.border import Border
from tests.promises.kills import noise, served

MIB = 1 << 20
SLACK = 96 * MIB
"""More than a serving process may grow: segments in flight, an index page or two, what the allocator keeps."""


async def growth(border: Border, tmp_path: Path, size: int) -> dict[str, int]:
    """Warm both sites up with a small push, then push `size` bytes across; return by how much the peak of each rose."""
    await border.start()
    await border.world.push(f"file:{noise(tmp_path / 'small', 4_000_000)}", "eu:app:v0")
    before = {name: served(border, name).memory_peak for name in ("us", "eu")}
    source = tmp_path / "large"
    with source.open("wb") as file:
        for number in range(size // (16 * MIB)):
            file.write(noise(tmp_path / "piece", 16 * MIB, number).read_bytes())
    await border.world.push(f"file:{source}", "eu:app:v1", timeout_s=280)
    return {name: served(border, name).memory_peak - before[name] for name in ("us", "eu")}


async def test_memory_does_not_grow_with_the_artifact(served_border: Border, tmp_path: Path) -> None:
    grown = await growth(served_border, tmp_path, 160 * MIB)

    assert max(grown.values()) < SLACK, grown


@pytest.mark.full
async def test_memory_does_not_grow_with_a_large_artifact(served_border: Border, tmp_path: Path) -> None:
    grown = await growth(served_border, tmp_path, 1_600 * MIB)

    assert max(grown.values()) < SLACK, grown
