"""File systems of a test: an ext4 in a file whose power can be cut, and a small tmpfs."""

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SIZE = 192 * 1024 * 1024


@dataclass
class Image:
    """An ext4 file system in a file, mounted over `target` through a loop device that does direct I/O.

    What was written and not synced is in the page cache only, so the file holds at every moment what a power cut would leave.
    """

    file: Path
    target: Path
    loop: str = ""

    def mount(self) -> None:
        """Attach and mount; a journal left by a power cut is replayed."""
        self.loop = _run("losetup", "--direct-io=on", "--find", "--show", str(self.file)).strip()
        _run("mount", "-o", "commit=300", self.loop, str(self.target))

    def unmount(self) -> None:
        """Unmount and detach."""
        if self.loop:
            _run("umount", str(self.target))
            _run("losetup", "--detach", self.loop)
            self.loop = ""

    def cut_power(self) -> None:
        """Go on with what is durable at this moment: everything that was only in the page cache is lost.

        The caller has killed every process that has a file open here.
        """
        kept = self.file.with_suffix(".cut")
        _run("cp", "--sparse=always", str(self.file), str(kept))
        self.unmount()
        kept.replace(self.file)
        self.mount()


class Mounts:
    """What one test has mounted."""

    def __init__(self, images: Path) -> None:
        self._images = images
        self._made: list[Image] = []
        self._small: list[Path] = []

    def image_over(self, directory: Path) -> Image:
        """Move `directory` onto an ext4 of its own, mounted at the same path."""
        self._images.mkdir(exist_ok=True)
        file = self._images / f"{directory.name}.ext4"
        with file.open("wb") as made:
            made.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", str(file))
        image = Image(file, directory)
        self._move(directory, image.mount)
        self._made.append(image)
        return image

    def small_over(self, directory: Path, size_mib: int) -> None:
        """Move `directory` onto a tmpfs of `size_mib`, mounted at the same path."""
        self._move(directory, lambda: _run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", str(directory)))
        self._small.append(directory)

    def release(self) -> None:
        """Unmount everything."""
        for image in self._made:
            image.unmount()
        for directory in self._small:
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("umount", str(directory))

    @staticmethod
    def _move(directory: Path, mount: "object") -> None:
        aside = directory.with_name(f"{directory.name}.aside")
        mode = directory.stat().st_mode
        directory.rename(aside)
        directory.mkdir()
        mount()  # type: ignore[operator]
        directory.chmod(mode)
        shutil.copytree(aside, directory, dirs_exist_ok=True, symlinks=True)
        os.sync()
        shutil.rmtree(aside)


def remount(directory: Path, how: str) -> None:
    """Mount what is at `directory` again: `ro`, `rw`, or `abort`, which is what ext4 does when its journal fails."""
    _run("mount", "-o", f"remount,{how}", str(directory))


def can_mount(probe: Path) -> bool:
    """Tell whether loop devices and mounts work here."""
    mounts = Mounts(probe / "images")
    directory = probe / "site"
    directory.mkdir()
    try:
        mounts.image_over(directory)
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        mounts.release()
    return True


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
