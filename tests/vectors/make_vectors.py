"""Writes the vector files of docs/formats.md again; run as `python -m tests.vectors.make_vectors` after a format change only.

Everything is deterministic. A change in a written file is a change of format: bump the version it belongs to.
"""

from collections.abc import Iterable

from carnet.chunking import AVERAGES, ChunkSizes, cut
from tests.vectors.blocks import VECTORS, expand


def write(name: str, title: str, blocks: Iterable[dict[str, str]]) -> None:
    """Write one vector file."""
    text = "\n\n".join("\n".join(f"{key}: {value}" for key, value in block.items()) for block in blocks)
    (VECTORS / name).write_text(f"# {title}\n# Form and recipes: tests/vectors/blocks.py\n\n{text}\n", encoding="ascii")


def chunking_blocks() -> Iterable[dict[str, str]]:
    """Cuts of random, constant and short data."""
    recipes = {
        "random": "stream:carnet chunking:400000",
        "zeros": "repeat:300000:hex:00",
        "zeros then random": "repeat:20000:hex:00 + stream:carnet tail:150000",
        "random twice": "stream:carnet twice:120000 + stream:carnet twice:120000",
        "one byte": "hex:2a",
        "minimum": "stream:carnet minimum:4096",
    }
    for average in AVERAGES:
        for name, recipe in recipes.items():
            ends = cut(expand(recipe), ChunkSizes(average), final=True)
            yield {"name": f"{name} {average}", "average": str(average), "data": recipe, "ends": " ".join(map(str, ends))}


def main() -> None:
    """Write every file."""
    write("chunking.txt", "End offsets of the chunks of `data`, all of it given at once", chunking_blocks())


if __name__ == "__main__":
    main()
