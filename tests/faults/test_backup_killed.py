"""`backup` and `restore` killed at their durable steps: what they leave is whole or is refused, and the site is as it was."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises.border import ROOT, Border, kept_segments, verified_log
from tests.promises.kills import noise, served

GATEWAY = str(Path(sys.executable).with_name("carnet-gateway"))
STEPS = "fdatasync,fsync,rename,renameat,renameat2,link,linkat"
BACKUP_SAMPLE, RESTORE_SAMPLE = (40,), (5,)
WHOLE = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 200, 233, 250, 260, 270, 280, 290, 300, 320, 377, 500, 610)


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def killed(strace: str, number: int, *command: str) -> bool:
    """Run the command with SIGKILL at its `number`-th durable step; tell whether it came so far."""
    fault = f"inject={STEPS}:signal=KILL:when={number}"
    done = run(strace, "-f", "-o", "/dev/null", "-e", f"trace={STEPS}", "-e", fault, GATEWAY, *command)
    assert "Traceback" not in done.stderr
    return done.returncode != 0


async def some_site(border: Border, tmp_path: Path) -> Path:
    """Return the directory of a site that has something and is stopped."""
    await border.start()
    await border.world.push(f"file:{noise(tmp_path / 'source')}", "eu:app:v1")
    await border.us.stop()
    await border.eu.stop()
    return border.eu.directory


async def check_backup(border: Border, strace: str, tmp_path: Path, numbers: tuple[int, ...]) -> list[bool]:
    site = await some_site(border, tmp_path)
    before, log = await kept_segments(border.eu), await verified_log(border.eu)
    struck = []
    for number in numbers:
        out = tmp_path / f"backup-{number}"
        struck.append(killed(strace, number, "backup", "--with-keys", str(site), str(out)))
        restored = run(GATEWAY, "restore", str(out), str(tmp_path / f"restored-{number}"))
        assert "Traceback" not in restored.stderr
        if restored.returncode == 0:
            assert run(GATEWAY, "store", "check", "--read-data", str(tmp_path / f"restored-{number}")).returncode == 0
        else:
            assert struck[-1], restored.stderr
            assert "[E-" in restored.stderr
        assert await kept_segments(border.eu) == before
        assert await verified_log(border.eu) == log
    return struck


async def check_restore(border: Border, strace: str, tmp_path: Path, numbers: tuple[int, ...]) -> list[bool]:
    site = await some_site(border, tmp_path)
    backup = tmp_path / "backup"
    assert run(GATEWAY, "backup", "--with-keys", str(site), str(backup)).returncode == 0
    struck = []
    for number in numbers:
        target = tmp_path / f"restored-{number}"
        struck.append(killed(strace, number, "restore", str(backup), str(target)))
        checked = run(GATEWAY, "store", "check", "--read-data", str(target))
        assert "Traceback" not in checked.stderr
        if checked.returncode != 0:
            assert struck[-1], checked.stderr
            assert "[E-" in checked.stderr
        again = run(GATEWAY, "restore", str(backup), str(tmp_path / f"again-{number}"))
        assert again.returncode == 0, again.stderr
    return struck


async def test_a_backup_killed_at_a_durable_step_is_refused_and_the_site_is_as_it_was(
    served_border: Border, strace: str, tmp_path: Path
) -> None:
    assert any(await check_backup(served_border, strace, tmp_path, BACKUP_SAMPLE))


@pytest.mark.full
async def test_a_restore_killed_at_a_durable_step_is_refused_and_can_be_done_again(
    served_border: Border, strace: str, tmp_path: Path
) -> None:
    assert any(await check_restore(served_border, strace, tmp_path, RESTORE_SAMPLE))


@pytest.mark.full
async def test_a_backup_killed_at_any_durable_step(served_border: Border, strace: str, tmp_path: Path) -> None:
    assert served(served_border, "eu")
    assert any(await check_backup(served_border, strace, tmp_path, WHOLE))


@pytest.mark.full
async def test_a_restore_killed_at_any_durable_step(served_border: Border, strace: str, tmp_path: Path) -> None:
    assert any(await check_restore(served_border, strace, tmp_path, WHOLE))
