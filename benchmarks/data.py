"""Data for the benchmarks, made with a fixed seed from files of this machine: similar on any machine, equal on one."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

_ROOTS = ("/usr/lib", "/usr/share", "/usr/bin", str(Path(os.__file__).parent))
_FILE_BYTES_MAX = 64 << 20
_NOISE_BYTES = 1 << 20


def machine_files() -> Iterator[Path]:
    """Yield readable regular files of this machine in a fixed order."""
    for root in _ROOTS:
        for directory, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                path = Path(directory, name)
                if (
                    path.is_file()
                    and not path.is_symlink()
                    and os.access(path, os.R_OK)
                    and path.stat().st_size <= _FILE_BYTES_MAX
                ):
                    yield path


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
                for block in (source.read_bytes(), noise.randbytes(min(_NOISE_BYTES, source.stat().st_size))):
                    written += out.write(block[: size - written])
                if written >= size:
                    break
    temporary.rename(path)
    return path


def tree(path: Path, size: int) -> Path:
    """Copy files of this machine into a directory until it has `size` bytes; names are numbered."""
    if (path / ".complete").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    copied = 0
    for number, source in enumerate(machine_files()):
        if copied >= size:
            break
        target = path / f"{number % 97:02d}" / f"{number:06d}-{source.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        copied += source.stat().st_size
    (path / ".complete").touch()
    return path


def change_files(path: Path, share: float, seed: int = 2) -> tuple[int, int]:
    """Insert a line into the middle of a share of the files; return how many files and bytes they have."""
    chosen = random.Random(seed)
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != ".complete")
    changed = [one for one in files if chosen.random() < share]
    for one in changed:
        data = one.read_bytes()
        one.write_bytes(data[: len(data) // 2] + b"a line that is new\n" + data[len(data) // 2 :])
    return len(changed), sum(one.stat().st_size for one in changed)
