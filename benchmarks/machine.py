"""The machine in one line, as every result names it."""

import os
import platform
from pathlib import Path

from carnet.chunking import kernel_name


def describe_machine() -> str:
    """Return cores, processor, memory, system, Python and kernel of the chunker."""
    return (
        f"{os.cpu_count()} cores {_processor()}, {_memory()}, Linux {platform.release()}, Python "
        f"{platform.python_version()}, kernel {kernel_name()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB"
