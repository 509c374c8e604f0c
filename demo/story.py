"""What the steps of the demo share: the sites and where everything lies."""

from collections.abc import Callable
from pathlib import Path

from site_process import DemoFailure, Site

Step = tuple[str, Callable[["Story"], str]]


class Story:
    """What the steps share."""

    def __init__(self, root: Path) -> None:
        """Keep everything of the demo below `root`."""
        self.root = root
        self.us: Site | None = None
        self.eu: Site | None = None
        self.sg: Site | None = None
        self.image = root / "image"
        self.first_bytes = 0

    @property
    def origin(self) -> Site:
        """The site `us`, once it is made."""
        if self.us is None:
            raise DemoFailure("site us was not made")
        return self.us

    @property
    def destination(self) -> Site:
        """The site `eu`, once it is made."""
        if self.eu is None:
            raise DemoFailure("site eu was not made")
        return self.eu

    @property
    def relay(self) -> Site:
        """The site `sg`, once it is made."""
        if self.sg is None:
            raise DemoFailure("site sg was not made")
        return self.sg
