"""Fuzzes the C kernel as the sanitizers see it: `python -m tests.fuzz.sanitized --seconds 20 [--seed N]`.

Builds `carnet/_kernel.c` with warnings as errors, ASan and UBSan, and runs the target of the chunk cutter on that build in a
process of its own. Needs a C compiler with its sanitizers and the headers of Python, and says which of them is missing.
"""

import argparse
import importlib.util
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "carnet" / "_kernel.c"
_WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_NAME = "carnet._kernel"


def compiler() -> list[str]:
    """Return the command of the C compiler: `$CC`, or `cc`."""
    return shlex.split(os.environ.get("CC") or "cc")


def missing() -> str | None:
    """Return what a sanitized build lacks on this machine, or None."""
    command = compiler()
    if shutil.which(command[0]) is None:
        return f"a C compiler ({command[0]})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "the headers of Python (python3-dev)"
    runtime = _runtime(command)
    return None if runtime is not None else f"the sanitizers of {command[0]}"


def build(directory: Path, source: Path = SOURCE) -> Path:
    """Compile `source` into `directory` and return the module; raise `CalledProcessError` with the compiler's words otherwise."""
    module = directory / "_kernel.abi3.so"
    # The macros of CPython's own headers convert as they like: they are no headers of ours.
    headers = ("-isystem", sysconfig.get_path("include"), "-DPy_LIMITED_API=0x030B0000")
    flags = ("-O1", "-g", "-shared", "-fPIC", *_WARNINGS, *_SANITIZERS, *headers)
    subprocess.run([*compiler(), *flags, source, "-o", module], check=True, capture_output=True, text=True)
    return module


def fuzz(module: Path, *, seconds: float, seed: int) -> "subprocess.CompletedProcess[str]":
    """Run the cutter's target on the module built; the exit status is 0 if nothing was found."""
    environment = dict(os.environ)
    environment |= {
        "LD_PRELOAD": str(_runtime(compiler())),
        "ASAN_OPTIONS": "detect_leaks=0",  # CPython does not free all that it has when it ends
        "PYTHONMALLOC": "malloc",  # so that the end of each buffer is known
    }
    command = [sys.executable, "-m", "tests.fuzz.sanitized", "--module", module, "--seconds", str(seconds), "--seed", str(seed)]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)


def main() -> int:
    """Build, fuzz, tell; the exit status is 1 if there was a finding or a warning of the compiler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--module", type=Path, help="run on this module, inside the process that the sanitizers watch")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    if given.module is not None:
        return _drive(given.module, given.seconds, seed)
    lacking = missing()
    if lacking is not None:
        print(f"kernel under its sanitizers: skipped, this machine lacks {lacking}")
        return int(os.environ.get("CARNET_REQUIRE_TOOLS") == "1")
    with tempfile.TemporaryDirectory(prefix="carnet-kernel-") as directory:
        try:
            module = build(Path(directory))
        except subprocess.CalledProcessError as error:
            print(error.stderr)
            return 1
        done = fuzz(module, seconds=given.seconds, seed=seed)
    print(f"kernel under ASan and UBSan, seed {seed}: {(done.stdout + done.stderr).strip()}")
    return 1 if done.returncode else 0


def _drive(module: Path, seconds: float, seed: int) -> int:
    """Put the module in the kernel's place, before anything imports it, and drive the target."""
    spec = importlib.util.spec_from_file_location(_NAME, module)
    assert spec is not None
    assert spec.loader is not None
    kernel = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = kernel
    spec.loader.exec_module(kernel)
    from carnet.chunking import kernel_name
    from tests.fuzz.drive import drive
    from tests.fuzz.fuzz_formats import targets

    assert kernel_name() == "c"
    assert Path(str(sys.modules[_NAME].__file__)) == module
    [target] = [one for one in targets() if one.name == "chunking"]
    print(f"{drive(target, seed=seed, seconds=seconds)} inputs, no finding")
    return 0


def _runtime(command: list[str]) -> Path | None:
    """Return the library of ASan that must be loaded before Python is, or None if the compiler has none."""
    asked = subprocess.run([*command, "-print-file-name=libasan.so"], check=False, capture_output=True, text=True)
    found = Path(asked.stdout.strip() or "libasan.so")
    return found if asked.returncode == 0 and found.is_absolute() and found.exists() else None


if __name__ == "__main__":
    sys.exit(main())
