"""What a worker's memory came to."""

import os
import subprocess
import sys
from pathlib import Path

from agent import memory

GROW = """
from agent import memory
ballast = bytearray(64 << 20)
del ballast
memory.trim()
assert memory.reset_peak()
before = memory.peak_bytes()
ballast = bytearray(32 << 20)
del ballast
print(memory.peak_bytes() - before)
"""


def test_the_peak_is_that_since_the_reset() -> None:
    """32 MiB that came and went after the reset are in it, 64 MiB before it are not."""
    grown = int(subprocess.run([sys.executable, "-c", GROW], capture_output=True, check=True).stdout)
    assert 30 << 20 < grown < 40 << 20


def test_the_peak_is_not_that_of_the_parent() -> None:
    """A child of a large process starts with its own peak, as ru_maxrss would not."""
    child = [sys.executable, "-c", "from agent import memory; print(memory.peak_bytes())"]
    parent = f"import subprocess, sys; ballast = bytearray(256 << 20); sys.exit(subprocess.call({child!r}))"
    found = subprocess.run([sys.executable, "-c", parent], capture_output=True, check=True)
    assert int(found.stdout) < 200 << 20


def test_the_share_of_a_file_in_the_page_cache(tmp_path: Path) -> None:
    """1 for a file just written, 0 for one that the kernel was told to drop, none for an empty one."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_001)
    assert memory.cached_share(str(path)) == 1.0
    (tmp_path / "empty").write_bytes(b"")
    assert memory.cached_share(str(tmp_path / "empty")) is None
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert memory.cached_share(str(path)) in (0.0, 1.0)  # a file system in memory drops nothing


def test_the_kernels_count_of_kills(tmp_path: Path) -> None:
    """oom_kill of /proc/vmstat; a kernel that does not count has none."""
    (tmp_path / "proc").mkdir()
    assert memory.oom_kills(str(tmp_path)) is None
    (tmp_path / "proc/vmstat").write_text("pgfault 12\noom_kill 3\n")
    assert memory.oom_kills(str(tmp_path)) == 3
    (tmp_path / "proc/vmstat").write_text("pgfault 12\n")
    assert memory.oom_kills(str(tmp_path)) is None
