"""What both transports do, on this machine and over a real sshd; and the parts that need no device."""

import base64
import hashlib
import hmac
import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sshd import free_port, left_since, make_key, public_file, unavailable

from agent.schema import FaultError
from controller import hostkeys, shellwords
from controller.process import BANNER_BYTES, MAX_LINE_BYTES, STDERR_TAIL_BYTES, Output
from controller.timeouts import Timeouts
from controller.transport import SshSettings, Transport, connect, resolve

ECHO = [sys.executable, "-c", "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"]
NASTY = [
    "",
    "two words",
    "it's",
    '"quoted"',
    "line\nbreaks\n\n",
    "\ttab\r\x01\x7f",
    "!! !x ^a^b",
    "$HOME ${HOME} $(id) `id`",
    "back\\slash \\\\ \\n \\'",
    "ünï ☂ 😀",
    "*?[a-z]{b,c}~",
    "#;&|<>()",
    "-n",
    "~",
    "%s %d %%",
]


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Each transport, ready to use."""
    ssh = request.getfixturevalue("shared_sshd").settings() if request.param == "ssh" else None
    with connect("device", ssh) as opened:
        yield opened


def fault_of(error: pytest.ExceptionInfo[FaultError]) -> tuple[str, str]:
    return error.value.fault.code, error.value.fault.message


def has_ended(command: list[str]) -> bool:
    """Whether no process runs `command`; one that has been killed is given the time to die."""
    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == command]
    return not psutil.wait_procs(found, timeout=10)[1]


# Words


@pytest.mark.parametrize("shell", ["sh", "bash", "tcsh", "fish"])
def test_nasty_words_reach_a_program_unchanged_through_a_login_shell(shell: str) -> None:
    """Every login shell hands the words on as they are, and its own line comes before what the program prints."""
    assert echoed(shell, NASTY) == NASTY


@pytest.mark.parametrize("shell", ["sh", "tcsh", "fish"])
@settings(max_examples=15, deadline=None)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=20))
def test_any_words_reach_a_program_unchanged_through_a_login_shell(shell: str, words: list[str]) -> None:
    """What `wrap` makes of a command line survives any shell, whatever the characters."""
    assert echoed(shell, words) == words


def echoed(shell: str, words: list[str]) -> list[str]:
    if shutil.which(shell) is None:
        unavailable(f"no {shell}: install it")
    printf = ["printf", "%s\\0", *words]
    done = subprocess.run([shell, "-c", shellwords.wrap(printf)], capture_output=True, check=True)
    marker, _, output = done.stdout.removeprefix(b"\n").partition(b"\n")
    assert shellwords.process_group(marker + b"\n")
    return output.decode().split("\0")[:-1]


def test_a_command_line_that_no_shell_could_hold_is_refused() -> None:
    """A NUL, nothing at all, or more than Linux takes for one argument is a ValueError before anything is sent."""
    for argv in (["a\0b"], [], ["x" * shellwords.MAX_LINE_BYTES]):
        with pytest.raises(ValueError, match="command line"):
            shellwords.wrap(argv)


# Commands


def test_words_and_streams_are_exact(transport: Transport) -> None:
    """argv arrives word for word, stdout is the program's bytes alone, and the status is its own."""
    done = transport.run([*ECHO, *NASTY], timeout_s=30)
    assert done.stdout.decode().split("\0") == NASTY
    assert (done.stderr_tail, done.status) == ("", 0)


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137), ("exec /nonexistent/program", 127)])
def test_the_exit_status_is_a_shells(transport: Transport, script: str, status: int) -> None:
    """A program's own status, 128 + N for signal N, 127 for a program that is not there."""
    assert transport.run(["/bin/sh", "-c", script], timeout_s=30).status == status


def test_a_flood_on_stderr_neither_blocks_nor_grows(transport: Transport) -> None:
    """10 MB on standard error while standard output is waited for: the command ends, and only the tail is kept."""
    script = "import sys; sys.stderr.write('x' * 10_000_000 + 'the end'); print('done')"
    done = transport.run([sys.executable, "-c", script], timeout_s=60)
    assert done.stdout == b"done\n"
    assert len(done.stderr_tail) == STDERR_TAIL_BYTES
    assert done.stderr_tail.endswith("the end")


def test_large_input_and_output_at_once_do_not_deadlock(transport: Transport) -> None:
    """A command that answers while it is still being fed is read while it is fed."""
    data = bytes(range(256)) * 20_000
    assert transport.run(["cat"], stdin=data, timeout_s=60).stdout == data


def test_a_command_that_does_not_read_its_input_ends_all_the_same(transport: Transport) -> None:
    """Input that nobody reads is not an error; the status tells what the command thought of it."""
    assert transport.run(["sh", "-c", "exit 4"], stdin=b"x" * 10_000_000, timeout_s=60).status == 4


def test_lines_come_while_the_command_runs(transport: Transport) -> None:
    """A line can be read, and answered, before the command ends."""
    answered = threading.Event()

    class Answer:
        def read(self, _size: int, /) -> bytes:
            answered.wait(30)
            return b""

    with transport.exec(["sh", "-c", "echo first; cat; echo; printf last"], stdin=Answer(), timeout_s=60) as running:
        assert running.stdout.readline() == b"first\n"
        answered.set()
        assert list(running.stdout) == [b"\n", b"last"]
        assert running.wait() == 0


def test_a_line_without_an_end_is_refused(transport: Transport) -> None:
    """A device cannot make the controller hold more than a line's limit."""
    endless = ["sh", "-c", "while :; do printf xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"]
    with transport.exec(endless, timeout_s=60) as running, pytest.raises(FaultError) as error:
        running.stdout.readline()
    assert fault_of(error)[0] == "protocol"
    assert str(MAX_LINE_BYTES) in fault_of(error)[1]


def test_output_beyond_its_limit_is_refused(transport: Transport) -> None:
    """`run` holds no more than `max_bytes`, and ends the command that prints more."""
    with pytest.raises(FaultError) as error:
        transport.run(["yes"], timeout_s=60, max_bytes=100_000)
    assert fault_of(error)[0] == "protocol"


def test_a_deadline_ends_the_command_and_its_children_on_the_device(transport: Transport) -> None:
    """Past its deadline a command is a `timeout` fault, and it no longer runs, nor what it started."""
    sleeper = ["sleep", f"{free_port()}.125"]
    with pytest.raises(FaultError) as error:
        transport.run(["sh", "-c", f"{' '.join(sleeper)} & echo started; wait"], timeout_s=0.5)
    assert fault_of(error)[0] == "timeout"
    assert "device" in fault_of(error)[1]
    assert has_ended(sleeper)


def test_leaving_the_block_ends_the_command(transport: Transport) -> None:
    """A consumer that stops reading leaves neither a process on the device nor a thread here."""
    sleeper = ["sleep", f"{free_port()}.25"]
    before = set(threading.enumerate())
    with transport.exec(["sh", "-c", f"echo started; {' '.join(sleeper)}"], timeout_s=None) as running:
        assert running.stdout.readline() == b"started\n"
    assert has_ended(sleeper)
    assert not left_since(before)


def test_wait_with_a_limit_of_its_own(transport: Transport) -> None:
    """`wait(timeout_s)` ends a command that was started without a deadline."""
    with transport.exec(["sleep", "1000"], timeout_s=None) as running, pytest.raises(FaultError) as error:
        running.wait(0.2)
    assert fault_of(error)[0] == "timeout"


def test_an_input_that_fails_ends_the_command(transport: Transport) -> None:
    """An error while reading what is to be sent is raised as it is, and the command does not take the part for the whole."""

    class Broken:
        def read(self, _size: int, /) -> bytes:
            raise OSError("bad sector")

    with pytest.raises(OSError, match="bad sector"):
        transport.run(["cat"], stdin=Broken(), timeout_s=60)


def test_what_a_descendant_holds_open_does_not_outlive_the_deadline(transport: Transport) -> None:
    """A process that left the command's session and keeps its output open cannot block the controller."""
    escape = "import os, time; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), flush=True); time.sleep(1000)"
    with transport.exec([sys.executable, "-c", escape], timeout_s=None) as running:
        escaped = psutil.Process(int(running.stdout.readline()))
        try:
            with pytest.raises(FaultError) as error:
                running.wait(0.3)
        finally:
            escaped.kill()
    assert fault_of(error)[0] == "timeout"


# Files


@pytest.fixture
def remote(tmp_path: Path) -> str:
    """A path that needs quoting."""
    folder = tmp_path / 'it\'s a "folder" $HOME'
    folder.mkdir()
    return str(folder / "!file *")


def test_a_file_makes_the_round_trip(transport: Transport, remote: str, tmp_path: Path) -> None:
    """Every byte of a large binary file arrives and comes back, the file is private, and progress ends at its size."""
    content = bytes(range(256)) * 40_000
    (tmp_path / "local").write_bytes(content)
    seen: list[int] = []
    transport.put(tmp_path / "local", remote, progress=seen.append)
    assert transport.get(remote, max_bytes=len(content)) == content
    assert seen == sorted(seen)
    assert seen[-1] == len(content)
    assert Path(remote).stat().st_mode & 0o777 == 0o600


def test_an_upload_resumes_where_it_stopped(transport: Transport, remote: str) -> None:
    """`offset` appends the rest; without it a file is replaced."""
    Path(remote).write_bytes(b"0123")
    transport.put(b"0123456789", remote, offset=4)
    assert transport.get(remote, max_bytes=100) == b"0123456789"
    transport.put(b"new", remote)
    assert transport.get(remote, max_bytes=100) == b"new"


@pytest.mark.parametrize(("path", "code"), [("/dev/full", "disk_full"), ("/nonexistent/file", "protocol")])
def test_an_upload_that_fails_says_why(transport: Transport, path: str, code: str) -> None:
    """A full disk is `disk_full`; the message names the device and the file."""
    with pytest.raises(FaultError) as error:
        transport.put(b"x" * 1_000_000, path)
    assert fault_of(error)[0] == code
    assert transport.description in fault_of(error)[1]
    assert path in fault_of(error)[1]


def test_a_file_that_is_missing_or_too_large_is_refused(transport: Transport, remote: str) -> None:
    """`get` raises for a file that is not there and for one beyond `max_bytes`."""
    with pytest.raises(FaultError, match="No such file"):
        transport.get(remote, max_bytes=10)
    Path(remote).write_bytes(b"x" * 11)
    with pytest.raises(FaultError, match="more than 10 bytes"):
        transport.get(remote, max_bytes=10)


def test_home_is_the_users(transport: Transport) -> None:
    """`home` is the absolute path of the home folder."""
    assert Path(transport.home()) == Path.home()


# A login shell that talks


def test_a_banner_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a login shell prints first is dropped, but only so much of it."""
    wrap = shellwords.wrap
    monkeypatch.setattr(shellwords, "wrap", lambda argv: f"yes hello | head -c {argv[0]}; {wrap(['echo', 'here'])}")
    with connect("device", None) as transport:
        assert transport.run([str(BANNER_BYTES // 2)], timeout_s=30).stdout == b"here\n"
        with pytest.raises(FaultError) as error:
            transport.run([str(BANNER_BYTES * 2)], timeout_s=30)
    assert fault_of(error)[0] == "protocol"
    assert "its login shell printed" in fault_of(error)[1]


def test_a_login_shell_that_hangs_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command without a deadline of its own has one for its beginning."""
    wrap = shellwords.wrap
    monkeypatch.setattr(shellwords, "wrap", lambda argv: f"sleep 1000; {wrap(argv)}")
    with connect("device", None, Timeouts(begin_s=0.2)) as transport, pytest.raises(FaultError) as error:
        transport.run(["true"], timeout_s=None)
    assert fault_of(error)[0] == "timeout"
    assert "did not begin" in fault_of(error)[1]


# known_hosts


ED25519 = base64.b64encode(b"a key").decode()
OTHER = base64.b64encode(b"another key").decode()


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("field", "host", "is_known"),
    [
        ("pi", "pi", True),
        ("other,PI", "pi", True),
        ("pi", "pi2", False),
        ("*.lab", "pi.lab", True),
        ("pi?", "pi4", True),
        ("*,!pi", "pi", False),
        ("[pi]:2222", "[pi]:2222", True),
        ("pi", "[pi]:2222", False),
        ("[pi]:2222", "pi", False),
        (hashed("pi"), "pi", True),
        (hashed("pi"), "pi2", False),
        (hashed("[pi]:2222"), "[pi]:2222", True),
        ("|1|not|base64!", "pi", False),
    ],
)
def test_known_hosts_names_hosts_as_openssh_does(tmp_path: Path, field: str, host: str, is_known: bool) -> None:
    """Plain, wildcard, negated, hashed and [host]:port entries match the hosts they mean and no other."""
    file = tmp_path / "known_hosts"
    file.write_text(f"# comment\n\nbroken line\n{field} ssh-ed25519 {ED25519} me@laptop\n{field} ssh-ed25519 not-base64\n")
    found = hostkeys.known([tmp_path / "missing", file], host)
    assert bool(found.keys) is is_known
    assert found.is_new is not is_known
    assert (found.refusal(hostkeys.HostKey("ssh-ed25519", b"a key")) == "") is is_known


def test_known_hosts_refuses_revoked_changed_and_unknown_keys(tmp_path: Path) -> None:
    """@revoked wins over an ordinary entry, an authority's key is no host key, and each refusal says which it is."""
    file = tmp_path / "known_hosts"
    file.write_text(f"pi ssh-ed25519 {ED25519}\n@revoked * ssh-ed25519 {ED25519}\n@cert-authority * ssh-ed25519 {OTHER}\n")
    found = hostkeys.known([file], "pi")
    assert "@revoked" in found.refusal(hostkeys.HostKey("ssh-ed25519", b"a key"))
    assert "known_hosts has SHA256:" in found.refusal(hostkeys.HostKey("ssh-ed25519", b"another key"))
    assert "known_hosts has no key of pi2" in hostkeys.known([], "pi2").refusal(hostkeys.HostKey("ssh-ed25519", b"a key"))
    assert found.kinds == ("ssh-ed25519",)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_fingerprints_are_openssh_s(tmp_path: Path, kind: str) -> None:
    """A key's fingerprint is what `ssh-keygen -l` prints, and its pin parses back."""
    public = public_file(make_key(tmp_path / "key", kind))
    name, blob = public.read_text().split()[:2]
    key = hostkeys.HostKey(name, base64.b64decode(blob))
    printed = subprocess.run(["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True).stdout
    assert key.fingerprint == printed.split()[1]
    assert hostkeys.parse_pin(key.pin).refusal(key) == ""


@pytest.mark.parametrize("pin", ["", "SHA256:abc", "ssh-ed25519 SHA256:short", f"ssh-ed25519  SHA256:{'a' * 43}", f"x SHA256:{'a' * 44}"])
def test_a_malformed_pin_is_refused(pin: str) -> None:
    """Only `KIND SHA256:` with 43 base64 characters is a pin."""
    with pytest.raises(ValueError, match="not a host key"):
        hostkeys.parse_pin(pin)


# ~/.ssh/config


CONFIG = """
Include {folder}/more
Host board
  HostName 127.0.0.1
  User someone
  Port 2222
  IdentityFile "%d/keys/%r@%h key"
  IdentitiesOnly yes
  ProxyJump first,me@[::1]:2200
Host first
  HostName first.lab
  ProxyJump zeroth
Host looping
  ProxyJump back
Host back
  ProxyJump looping
Host odd
  ProxyCommand nc %h %p
Host renamed
  HostKeyAlias real-name
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An ssh_config with an Include."""
    (tmp_path / "more").write_text("Host board\n  UserKnownHostsFile /tmp/known\n")
    (tmp_path / "config").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path / "config"


def test_an_alias_is_resolved_as_ssh_would(config: Path) -> None:
    """HostName, User, Port, IdentityFile with tokens, Include, and a ProxyJump chain whose first host has a ProxyJump of its own."""
    found = resolve(SshSettings("board", config=config, host_key="device's", jump_host_key="jump's"))
    assert (found.host, found.user, found.port, found.address) == ("127.0.0.1", "someone", 2222, "127.0.0.1:2222")
    assert found.identity_files == (Path.home() / "keys" / "someone@127.0.0.1 key",)
    assert found.identities_only
    assert Path("/tmp/known") in found.known_hosts
    assert [(jump.host, jump.port) for jump in found.jumps] == [("zeroth", 22), ("first.lab", 22), ("::1", 2200)]
    assert [jump.host_key for jump in found.jumps] == [None, None, "jump's"]
    assert (found.host_key, found.jumps[2].user, found.jumps[2].address) == ("device's", "me", "[::1]:2200")


def test_the_inventory_wins_over_ssh_config(config: Path) -> None:
    """user, port and jump of the inventory replace those of ~/.ssh/config."""
    found = resolve(SshSettings("board", user="bench", port=23, jump="ssh://gate:24", config=config))
    assert (found.user, found.port, found.known_as) == ("bench", 23, "[127.0.0.1]:23")
    assert [(jump.host, jump.port) for jump in found.jumps] == [("gate", 24)]
    assert resolve(SshSettings("board", jump="none", config=config)).jumps == ()
    assert resolve(SshSettings("renamed", port=23, config=config)).known_as == "real-name"


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("looping", "more than 8 hosts"),
        ("odd", "ProxyCommand"),
        ("bad;host", "invalid characters"),
        ("-oProxyCommand=x", "invalid characters"),
    ],
)
def test_what_cannot_be_resolved_is_unreachable(config: Path, host: str, why: str) -> None:
    """A loop of jump hosts, a ProxyCommand, or a name that ssh refuses is an `unreachable` fault that says so."""
    with pytest.raises(FaultError) as error:
        resolve(SshSettings(host, config=config))
    assert fault_of(error)[0] == "unreachable"
    assert why in fault_of(error)[1]


def test_without_an_ssh_program_paramiko_reads_the_config(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ssh is missing, the file's own entries still count; only Include is ignored."""
    monkeypatch.setenv("PATH", "")
    found = resolve(SshSettings("board", config=config))
    assert (found.host, found.user, found.port) == ("127.0.0.1", "someone", 2222)
    assert found.identity_files == (Path.home() / "keys" / "someone@127.0.0.1 key",)
    assert [jump.host for jump in found.jumps] == ["zeroth", "first.lab", "::1"]
    assert Path.home() / ".ssh" / "known_hosts" in found.known_hosts
    assert resolve(SshSettings("elsewhere", config=config.parent / "missing")).user


def test_readline_splits_lines_of_any_length() -> None:
    """Lines come out whole however the bytes arrive."""
    text = b"".join(b"x" * length + b"\n" for length in range(200)) + b"rest"
    for size in (1, 7, 4096):
        source = io.BytesIO(text)
        assert list(Output(lambda _, source=source, size=size: source.read(size), "it")) == text.splitlines(keepends=True)
