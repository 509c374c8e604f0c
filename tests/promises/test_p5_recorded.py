"""P5: every change of state of a crossing is an entry under a checkpoint, at both ends; an edit of the published log is found."""

from pathlib import Path

import pytest

from carnet.errors import CarnetError
from tests.promises.border import Border, verified_log
from tests.promises.kills import noise


async def crossed(border: Border, tmp_path: Path) -> None:
    """Bring one artifact across, then stop both sites."""
    await border.world.push(f"file:{noise(tmp_path / 'a', 100_000)}", "eu:app:v1")
    await border.us.stop()
    await border.eu.stop()


async def test_every_change_of_state_of_a_crossing_is_an_entry_at_both_ends(border: Border, tmp_path: Path) -> None:
    await crossed(border, tmp_path)

    us, eu = await verified_log(border.us), await verified_log(border.eu)

    for kind in ("transfer-declared", "transfer-received", "transfer-inspected", "decision-offer", "decision-release"):
        assert us[kind] == 1, kind
    assert (us["key-released"], us["segments-sent"]) == (1, 1)
    assert us["receipt-received"] == 2  # stored, then delivered
    for kind in ("transfer-declared", "receipt-stored", "key-unwrapped", "decision-receipt", "receipt-delivered"):
        assert eu[kind] == 1, kind


async def test_an_edited_byte_of_the_checkpoint_or_of_what_it_rests_on_is_found(border: Border, tmp_path: Path) -> None:
    """A log may keep partial tiles of earlier checkpoints; the newest checkpoint does not rest on those."""
    await crossed(border, tmp_path)
    log = border.us.paths.log
    size = sum((await verified_log(border.us)).values())
    under = [path for path in log.rglob("*") if path.is_file() and (path.parent.suffix != ".p" or path.name == str(size))]
    assert {path.relative_to(log).parts[0] for path in under} == {"checkpoint", "tile"}

    for path in under:
        content = path.read_bytes()
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(CarnetError):
                await verified_log(border.us)
        path.write_bytes(content[:-1])
        with pytest.raises(CarnetError):
            await verified_log(border.us)
        path.write_bytes(content)
    await verified_log(border.us)
