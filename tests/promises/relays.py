"""Sites with relays between them for the promises: templates made once, and what a push over them comes to."""

import asyncio
from pathlib import Path

from tests.crossing.sites import make_template

LANES = {"transit": "us-eu=us:eu:inspected:sg", "store": "us-eu=us:eu:inspected:sg@store"}


def make_relay_templates(root: Path) -> dict[str, Path]:
    """Return a template for each carriage, all below `root`: us, eu and the relay sg."""
    for name, lane in LANES.items():
        asyncio.run(make_template(root / name, lane, ("sg",)))
    return {name: root / name for name in LANES}
