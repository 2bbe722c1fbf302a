"""A system's files and programs: what this user may not do, and what hostile or broken ones are worth."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boards as fake
import pytest

from agent import boards, storage, system
from agent.accelerators import accelerators
from agent.power_sources import power_sources
from agent.system import MAX_CHARACTERS, System, clean, output_of

UNKNOWN = boards.Board("", "", "", "", "")


# Permissions


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(call: Callable[[], str]) -> str:
    """What `call` gives in a process of a user without privileges."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            os.write(writing, call().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return answer.read()


def test_a_stick_that_may_not_be_opened_says_why(public: Path) -> None:
    """Mode and group of the node are named; a node that is not there is named too."""
    fake.usb_device(public, "2-1.4", "18d1:9302", 5000)
    node = public / "dev/bus/usb/002/003"
    node.chmod(0o444)

    def problem() -> str:
        return accelerators(System(str(public)), UNKNOWN)[0].problem

    told = as_nobody(problem)
    assert "may not open /dev/bus/usb/002/003 (mode 0444, group " in told
    node.unlink()
    assert as_nobody(problem) == "/dev/bus/usb/002/003: No such file or directory"


def test_energy_counters_for_root_only_say_so(public: Path) -> None:
    """The x86 counters are listed by name with the file that may not be read."""
    fake.plain_pc(public)

    def told() -> str:
        (rapl,) = power_sources(System(str(public)), UNKNOWN)
        assert rapl.boundary == "soc"
        return f"{rapl.rails} {rapl.problem}"

    said = as_nobody(told)
    assert said.startswith("['package-0', 'package-0/core', 'package-0/dram'] ")
    assert "may not read /sys/class/powercap/intel-rapl:0/energy_uj (mode 0400, " in said


def test_a_folder_that_may_not_be_written_is_a_problem(public: Path) -> None:
    """Somebody else's folder is; one's own is none and nothing stays behind in it."""
    public.chmod(0o555)
    assert as_nobody(lambda: storage.problem(str(public))).endswith(" may not write there")
    public.chmod(0o777)
    assert as_nobody(lambda: storage.problem(str(public))) == ""
    assert list(public.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("noexec", "libraries cannot be loaded from there: it is mounted noexec"),
        ("ro", "the file system is read-only"),
        ("size=4k", "no space is left there"),
        ("rw", ""),
    ],
)
def test_a_mount_that_cannot_hold_runtimes_is_a_problem(options: str, problem: str, tmp_path: Path) -> None:
    """A real file system, mounted for one process: noexec, read-only, full, and one that will do."""
    code = "import sys; sys.path.insert(0, sys.argv[2]); from agent import storage; print(storage.problem(sys.argv[1]))"
    mounting = (
        'mount -t tmpfs -o "$1" tmpfs "$2"; case "$1" in size=*) head -c 4096 /dev/zero > "$2/full";; esac; exec "$3" -c "$4" "$2" "$5"'
    )
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if os.environ.get("CI") != "true" and subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount anything, not even for itself")
    source_folder = str(Path(storage.__file__).parents[1])
    argv = [*unshare, "sh", "-ec", mounting, "sh", options, str(tmp_path), sys.executable, code, source_folder]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == problem + "\n"


# Hostile and broken systems


def test_programs_are_bounded(tmp_path: Path) -> None:
    """One that never ends or leaves a child behind gives nothing, one that talks without end is cut, one that is no program is none."""
    fake.script(tmp_path, "sleeps", "sleep 60 & echo started; exit 0\n")
    fake.script(tmp_path, "talks", "yes 0123456789\n")
    fake.write(tmp_path, {"usr/bin/text": "#!/no/such/interpreter\n"})
    (tmp_path / "usr/bin/text").chmod(0o755)
    assert output_of([str(tmp_path / "usr/bin/sleeps")], timeout_s=0.3) == ""
    assert 60_000 < len(System(str(tmp_path)).ask("talks")) <= 1 << 16
    assert System(str(tmp_path)).ask("text") == System(str(tmp_path)).ask("missing") == ""


def test_a_program_that_no_signal_ends_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is stuck in a driver, here one that is spared, keeps nobody waiting: it gives nothing."""
    spared: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(system, "_end", spared.append)
    monkeypatch.setattr(system, "KILLED_WITHIN_S", 0.1)
    assert system.run(["sh", "-c", "echo started; exec >&- 2>&-; exec sleep 60"], 5.0, os.environb, errors=True) == (b"", None)
    spared[0].kill()
    spared[0].wait()


def test_a_quick_look_starts_no_program(tmp_path: Path) -> None:
    """With programs off none is found, however executable."""
    fake.jetson_nano(tmp_path)
    system = System(str(tmp_path), programs=False)
    assert (system.program("nvpmodel"), system.ask("nvpmodel", "-q")) == ("", "")


def test_a_fake_root_has_no_programs_of_the_real_one(tmp_path: Path) -> None:
    """What is on the PATH counts for the real root only."""
    assert System().program("sh")
    assert System(str(tmp_path)).program("sh") == ""


def test_files_are_bounded_and_never_waited_for(tmp_path: Path) -> None:
    """A pipe without a writer, a folder and a file without end give nothing or their beginning."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    system = System(str(tmp_path))
    assert (system.line("pipe"), system.line("folder"), system.number("pipe")) == ("", "", None)
    assert len(system.content("zero", 1000)) == 1000
    fake.write(tmp_path, {"text": "one\0two\nthree\n"})
    assert (system.line("text"), system.items("text")) == ("one", ["one", "twothree"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  a\t b \0\x1b[31m\u202e", "a b [31m"),
        ("x" * 10_000, "x" * MAX_CHARACTERS),
        ("\udcff\ud800", ""),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_text_is_cleaned(text: str, shown: str) -> None:
    """No control characters, no marks that reorder text, no half characters, no more than MAX_CHARACTERS."""
    assert clean(text) == shown
