"""P5: every change of state of a crossing is an entry under a checkpoint, at both ends."""

from pathlib import Path

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
    assert us["receipt-received"] >= 1  # that of the delivery may not be under a checkpoint yet when the site stops
    for kind in ("transfer-declared", "receipt-stored", "key-unwrapped", "decision-receipt", "receipt-delivered"):
        assert eu[kind] == 1, kind
