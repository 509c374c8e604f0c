"""The C kernel compiles without a warning and is clean under ASan and UBSan; a build that reads too far is caught."""

import os
from pathlib import Path

import pytest

from tests.fuzz.sanitized import SOURCE, build, fuzz, missing


@pytest.fixture(scope="module", autouse=True)
def _can_be_built() -> None:
    lacking = missing()
    if lacking is None:
        return
    if os.environ.get("CARNET_REQUIRE_TOOLS") == "1" and os.environ.get("CC") is None:
        pytest.fail(f"needs {lacking}: install it, for CARNET_REQUIRE_TOOLS=1 allows no skip", pytrace=False)
    pytest.skip(f"needs {lacking}")


def test_the_kernel_compiles_without_a_warning_and_its_sanitizers_find_nothing(tmp_path: Path) -> None:
    done = fuzz(build(tmp_path), seconds=2, seed=20)

    assert (done.returncode, done.stderr) == (0, "")
    assert "no finding" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("available < sizes->maximum ? available : sizes->maximum", "sizes->maximum", "heap-buffer-overflow"),
        ("count < room", "count <= room", "heap-buffer-overflow"),
        ("UINT64_C(1) << (64 - bits_large)", "UINT64_C(1) << (128 - bits_large)", "runtime error: shift exponent"),
    ],
    ids=["reads past its data", "writes past the ends", "shifts too far"],
)
def test_a_kernel_with_such_a_mistake_is_caught(tmp_path: Path, right: str, wrong: str, found: str) -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count(right) == 1
    broken = tmp_path / "_kernel.c"
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    done = fuzz(build(tmp_path, broken), seconds=2, seed=20)

    assert done.returncode != 0
    assert found in done.stderr
