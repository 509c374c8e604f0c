"""Templates of sites with relays between them, by the kind of route."""

from pathlib import Path

from tests.crossing.sites import make_template

ROUTES = {
    "transit": ("us-eu=us:eu:inspected:sg", ("sg",)),
    "store": ("us-eu=us:eu:inspected:sg@store", ("sg",)),
    "two": ("us-eu=us:eu:inspected:sg+jp", ("sg", "jp")),
    "sealed": ("us-eu=us:eu:sealed:sg", ("sg",)),
}
"""The lane of each, and its relays."""


class Templates:
    """Templates by the name of their route, each made when the first test asks for it."""

    def __init__(self, root: Path) -> None:
        """They are made below `root`."""
        self._root = root
        self._made: set[str] = set()

    async def of(self, name: str) -> Path:
        """Return the directory of a template."""
        root = self._root / name
        if name not in self._made:
            lane, relays = ROUTES[name]
            await make_template(root, lane, relays)
            self._made.add(name)
        return root
