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


def test_the_proportional_set_size_counts_shared_memory_by_its_sharers() -> None:
    """A process that writes 32 MiB has them whole; smaps_rollup and the sum over smaps say the same."""
    code = "from agent import memory; a = memory.pss_bytes(); b = bytearray(b'x' * (32 << 20)); print(memory.pss_bytes() - a)"
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 31 << 20 < grown < 40 << 20


def test_an_old_kernel_has_no_rollup(tmp_path: Path) -> None:
    """Without smaps_rollup, as on a Jetson Nano, the mappings are added up; without either nothing is known."""
    assert memory.pss_bytes(str(tmp_path)) is None
    (tmp_path / "smaps").write_text("55-56 r-xp 0 0:0 0 /bin/x\nRss: 9 kB\nPss: 4 kB\nSwapPss: 7 kB\n57-58 rw-p 0\nPss: 3 kB\n")
    assert memory.pss_bytes(str(tmp_path)) == 7 * 1024
    (tmp_path / "smaps").write_text("Pss: lots\n")
    assert memory.pss_bytes(str(tmp_path)) is None


def test_a_jetsons_shared_memory(tmp_path: Path) -> None:
    """NvMapMemUsed where the kernel has it, else what is not available; on other boards it is not observable."""
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemAvailable: 3000 kB\n")
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 4 Model B Rev 1.4\0")
    assert memory.shared_gpu_bytes(str(tmp_path)) is None
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson Nano Developer Kit\0")
    assert memory.shared_gpu_bytes(str(tmp_path)) == 1000 * 1024
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemAvailable: 3000 kB\nNvMapMemUsed: 12 kB\n")
    assert memory.shared_gpu_bytes(str(tmp_path)) == 12 * 1024
    (tmp_path / "proc/meminfo").write_text("MemTotal: a lot\n")
    assert memory.shared_gpu_bytes(str(tmp_path)) is None
