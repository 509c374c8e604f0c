"""What is compared: operations, on which data, by which tools; and one run of one tool."""

import filecmp
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data import incompressible_file
from benchmarks.image import make_images
from benchmarks.measuring import measure
from benchmarks.network import Network
from benchmarks.ours import Carnet
from benchmarks.pki import Pki
from benchmarks.processes import Failed
from benchmarks.rivals.curl_nginx import CurlNginx
from benchmarks.rivals.restic import Restic
from benchmarks.rivals.rsync import Rsync
from benchmarks.rivals.scp import Scp
from benchmarks.rivals.skopeo import Skopeo
from benchmarks.rivals.zstd_age_curl import ZstdAgeCurl
from benchmarks.tool import Place, Tool
from benchmarks.tree import Versions, make_tree


@dataclass(frozen=True)
class Sizes:
    """How large the data is, in bytes but for the files."""

    file: int
    tree: int
    tree_files: int
    growth: tuple[int, ...]


FULL = Sizes(1 << 30, 1_075_000_000, 40_000, (1 << 30, 8 << 30))
FAR = Sizes(256 << 20, 256_000_000, 9_600, ())
QUICK = Sizes(64 << 20, 64_000_000, 2_400, (32 << 20, 256 << 20))


@dataclass(frozen=True)
class Operation:
    """One comparison: what was pushed before, and what is measured."""

    name: str
    title: str
    material: str
    tools: tuple[type[Tool], ...]
    before: bool = False
    """Whether version 1 is at the far end already."""
    pulls: bool = False
    """Whether version 1 is fetched; else the first version that is not there yet is pushed."""


OPERATIONS = (
    Operation("a-cold", "a file that nothing can compress", "file", (Carnet, Scp, CurlNginx)),
    Operation("b-cold", "a container's root as a tar", "tree", (Carnet, ZstdAgeCurl, Restic)),
    Operation("b-next", "its next version", "tree", (Carnet, Restic, Rsync), before=True),
    Operation("b-pull", "pulled, verified", "tree", (Carnet, Restic), before=True, pulls=True),
    Operation("c-cold", "an image with gzip layers", "image", (Carnet, Skopeo)),
    Operation("c-next", "its next tag, half its layers rebuilt", "image", (Carnet, Skopeo), before=True),
    Operation("c-pull", "pulled, verified", "image", (Carnet, Skopeo), before=True, pulls=True),
)
TOOLS: dict[str, type[Tool]] = {tool.name: tool for operation in OPERATIONS for tool in operation.tools}


class Bench:
    """The places of all runs: data, the wire, certificates, and a scratch directory that goes with each run."""

    def __init__(self, data: Path, scratch: Path, network: Network, pki: Pki) -> None:
        """Take directories that exist; `scratch` is on the disk that the data is on."""
        self.data = data
        self._scratch = scratch
        self._network = network
        self._pki = pki

    def materials(self, sizes: Sizes, wanted: set[str]) -> dict[str, Versions]:
        """Make the data of these kinds; what is there is kept."""
        made: dict[str, Versions] = {}
        if "file" in wanted:
            path = incompressible_file(self.data / f"noise-{sizes.file >> 20}.bin", sizes.file)
            made["file"] = Versions(path, path, {"v1_bytes": sizes.file})
        if wanted & {"tree", "image"}:
            made["tree"] = make_tree(self.data / f"tree-{sizes.tree // 1_000_000}", sizes.tree, sizes.tree_files)
            if "image" in wanted:
                made["image"] = make_images(self.data / f"image-{sizes.tree // 1_000_000}", made["tree"])
        return made

    def run(self, operation: Operation, tool: type[Tool], material: Versions) -> dict[str, float]:
        """Run one operation with one tool at a fresh server; return the values by name. Raises `Failed`."""

        def steps(running: Tool, place: Place) -> dict[str, float]:
            if operation.before:
                running.prepare(material.first, "v1")
            if operation.pulls:
                return _pull(running, place, material.first)
            return self.push(running, place, *((material.second, "v2") if operation.before else (material.first, "v1")))

        return self.in_place(tool, steps)

    def push(self, running: Tool, place: Place, source: Path, version: str) -> dict[str, float]:
        """Measure one push."""
        sample = measure(place.network, running.push(source, version), running.server, place.scratch / "client.log")
        return _values(asdict(sample)) | running.after_push(sample)

    def in_place(self, tool: type[Tool], steps: Callable[[Tool, Place], dict[str, float]]) -> dict[str, float]:
        """Give a tool an empty place and a started server; both are gone afterwards."""
        with TemporaryDirectory(dir=self._scratch) as directory:
            place = Place(Path(directory), self._scratch, self._network, self._pki)
            running = tool(place)
            try:
                running.start()
                return steps(running, place)
            finally:
                running.stop()


def _pull(running: Tool, place: Place, source: Path) -> dict[str, float]:
    """Measure one pull and compare what came."""
    target = place.scratch / "pulled"
    is_image = source.is_dir()
    if not is_image:
        target.mkdir()
    command = running.pull("v1", "" if is_image else source.name, target)
    sample = measure(place.network, command, running.server, place.scratch / "client.log")
    came = [(blob, target / blob.relative_to(source)) for blob in source.glob("blobs/*/*")] or [(source, target / source.name)]
    for sent, got in came:
        if not got.exists() or not filecmp.cmp(sent, got, shallow=False):
            raise Failed(f"{running.name} pulled something else than was pushed: {got.name}")
    shutil.rmtree(target)
    return _values(asdict(sample))


def _values(sample: dict[str, float]) -> dict[str, float]:
    """Leave out what is no measurement."""
    return {name: value for name, value in sample.items() if name != "started_at"}
