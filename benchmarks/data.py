"""Files of one size for the benchmarks, made with a fixed seed: one that nothing can compress, and one half of machine files."""

import os
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 1 << 20
_FILE_BYTES_MAX = 64 << 20
_TURN_BYTES = 64 << 10
_LETTERS = bytes(b"etaoinsh"[(byte & -byte).bit_length() % 8] for byte in range(256))
"""For each byte of noise a letter, half of the time the same: about two bits of content a byte."""


def machine_roots() -> list[Path]:
    """Return the directories of this machine whose files are the stuff of all data: like those of a container's root."""
    python = (Path(os.__file__).parent, Path(sysconfig.get_path("purelib")))
    return [root for root in (Path("/usr/bin"), Path("/usr/lib"), Path("/usr/share"), *python) if root.is_dir()]


def machine_files() -> Iterator[Path]:
    """Yield readable regular files of this machine, each once, in a fixed order."""
    seen: set[str] = set()
    for root in machine_roots():
        for directory, names, files in os.walk(root):
            names[:] = sorted(name for name in names if f"{directory}/{name}" not in seen)
            seen.update(f"{directory}/{name}" for name in names)
            for name in sorted(files):
                path = Path(directory, name)
                if _is_usable(path):
                    yield path


def incompressible_file(path: Path, size: int, seed: int = 1) -> Path:
    """Write `size` bytes of noise, the same at every machine; return `path`, which is kept if it is there."""
    if path.exists() and path.stat().st_size == size:
        return path
    noise = random.Random(seed)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as out:
        for start in range(0, size, _BLOCK_BYTES):
            out.write(noise.randbytes(min(_BLOCK_BYTES, size - start)))
    return temporary.rename(path)


def half_compressible_file(path: Path, size: int, seed: int) -> Path:
    """Write `size` bytes that depend on the seed alone: noise and letters in turns of 64 KiB; return `path`."""
    noise = random.Random(seed)
    with path.open("wb") as out:
        for number, start in enumerate(range(0, size, _TURN_BYTES)):
            block = noise.randbytes(min(_TURN_BYTES, size - start))
            out.write(block.translate(_LETTERS) if number % 2 else block)
    return path


def mixed_file(path: Path, size: int, seed: int = 1) -> Path:
    """Write a file of `size` bytes: half files of this machine, half noise, in turns of about a megabyte."""
    if path.exists() and path.stat().st_size == size:
        return path
    noise = random.Random(seed)
    temporary = path.with_suffix(".tmp")
    written = 0
    with temporary.open("wb") as out:
        while written < size:
            for source in machine_files():
                for block in (source.read_bytes(), noise.randbytes(min(_BLOCK_BYTES, source.stat().st_size))):
                    written += out.write(block[: size - written])
                if written >= size:
                    break
    return temporary.rename(path)


def _is_usable(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and os.access(path, os.R_OK) and path.stat().st_size <= _FILE_BYTES_MAX
