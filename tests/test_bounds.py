"""However much a device sends, and however deep: so much is read, the rest is refused as a fault, and nothing hangs or grows."""

import gzip
import hashlib
import io
import os
import socket
import struct
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import blobs
from agent.cache import Cache
from agent.description import Probe
from agent.schema import MAX_DEPTH, PROTOCOL, Event, FaultError, SampleFile, SchemaError, decode, load
from controller import collect, limits, process, profiles
from controller.base_transport import MAX_STDOUT_BYTES
from controller.inventory import AgentSettings, Device
from controller.remote import Remote
from controller.session import Session
from controller.timeouts import Timeouts
from controller.transport import LocalTransport, SshSettings, connect

HOSTILE = """\
#!{python} -I
# A fake interpreter of a device: says that the agent is there, and answers whatever it is asked with {script!r}.
import json, os, sys
out = sys.stdout.buffer
def say(**answer):
    out.write(json.dumps(answer).encode() + b"\\n")
    out.flush()
def raw(text):
    out.write(text.encode("utf-8", "surrogateescape") + b"\\n")
    out.flush()
def answer(value):
    raw('{{"v":1,"ok":{{"a":' + value + "}}}}")
def event(seq, kind="news", **data):
    say(v={protocol}, seq=seq, t=0.0, type=kind, data=data)
say(python=[3, 11, 0], present=True, error="", root="/nowhere")
asked = json.loads(sys.stdin.readline())
try:
{lines}
except BrokenPipeError:
    os._exit(0)
"""
SHORT = Timeouts(answer_s=20.0, work_s=20.0, transfer_s=20.0, reconnect_s=0.5, close_s=0.2)
FOREVER = "while True: out.write(b'x' * 65536)"
DEEP = "[" * 10_000 + "]" * 10_000

MakeRemote = Callable[[str], Remote]


def program(folder: Path, script: str) -> str:
    path = folder / "python"
    lines = "".join(f"    {line}\n" for line in script.splitlines())
    path.write_text(HOSTILE.format(python=sys.executable, script=script, protocol=PROTOCOL, lines=lines))
    path.chmod(0o700)
    return str(path)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[MakeRemote]:
    """Gives the client of a device whose agent answers by a script."""
    made: list[Remote] = []

    def make(script: str) -> Remote:
        made.append(Remote(LocalTransport("liar", SHORT), "liar", program(tmp_path, script), "cache"))
        return made[-1]

    yield make
    for remote in made:
        remote.close()


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(FaultError) as caught:
        action()
    assert len(caught.value.fault.message) < 2000
    return caught.value.fault.code


@contextmanager
def memory_below(most_bytes: int) -> Iterator[None]:
    """What Python holds at once within the block stays below a bound."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()


# Answers


BUSY = "say(v=1, ok={'size_bytes': {}, 'busy': OWNER}); sys.stdin.read()"
ENDLESS = {
    "bytes without a line's end": FOREVER,
    "a line of brackets": "answer('[' * 100_000)",
    "an object nested too deeply": """answer('{"a":' * 40 + '1' + '}' * 40)""",
    "a number of 5000 digits": "answer('9' * 5000)",
    "a number of 65 bits": "answer(str(2**64))",
    "no number": "answer('NaN')",
    "a number that no float holds": "answer('1e999')",
    "half a character": r"""answer('"\\ud800"')""",
    "nothing that is UTF-8": r"""answer('"\udcff"')""",
    "a list": "raw('[]')",
}


@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_out_of_bounds_is_refused(device: MakeRemote, script: str) -> None:
    """Endless, deep, huge and unreadable answers are `protocol`; what was read of them does not stay."""
    remote = device(script)
    with memory_below(30 * limits.MAX_ANSWER_BYTES):
        assert code_of(remote.lease) == "protocol"


@pytest.mark.parametrize("key", ["busy", "size_bytes"])
def test_the_last_of_two_keys_counts_and_is_checked(device: MakeRemote, key: str) -> None:
    """JSON that has a key twice is read as Python reads it: no unchecked value comes through."""
    script = """raw('{"v":1,"ok":{"size_bytes":{},"busy":"","KEY":7}}'); sys.stdin.read()""".replace("KEY", key)
    assert code_of(device(script).garbage) == "protocol"


def test_a_probe_larger_than_any_device_is_refused(device: MakeRemote) -> None:
    """Neither long texts nor long lists of a probe are stored."""
    fields = dict.fromkeys(Probe._fields, "")
    for told in ({"board": "x" * (limits.MAX_PATH_CHARACTERS + 1)}, {"groups": ["g"] * (limits.MAX_PROBE_ENTRIES + 1)}):
        script = f"say(v=1, ok={ {**fields, **told}!r})"
        assert code_of(device(script).probe) == "protocol"


def test_standard_error_without_end_is_drained(device: MakeRemote) -> None:
    """A device that talks on standard error for ever is answered all the same, and its last words are few."""
    remote = device("os.write(2, b'x' * 5_000_000)\n" + BUSY.replace("OWNER", "'me'"))
    with memory_below(20_000_000):
        assert remote.garbage().busy == "me"


def test_an_owner_of_any_length_is_cut(device: MakeRemote) -> None:
    """What people are shown of a device's words is short."""
    remote = device(BUSY.replace("OWNER", "'x' * 100_000"))
    assert len(remote.garbage().busy) == limits.MAX_TEXT_CHARACTERS


def test_a_fault_of_any_length_is_cut(device: MakeRemote) -> None:
    """A fault's message, too."""
    remote = device("say(v=1, fault={'code': 'busy', 'phase': 'x' * 9999, 'message': 'x' * 9999, 'next': 'x' * 9999})\nsys.stdin.read()")
    assert code_of(remote.lease) == "busy"


# A beginning


@pytest.mark.parametrize(
    "line",
    [
        "x" * (limits.MAX_EVENT_BYTES + 10),
        DEEP,
        '{"python":[],"present":true,"error":"","root":"/"}',
        '{"python":[3,11,' + "9" * 5000 + "]}",
        "[]",
    ],
    ids=["endless", "deep", "no version", "digits", "a list"],
)
def test_a_beginning_out_of_bounds_is_refused(tmp_path: Path, line: str) -> None:
    """An interpreter that says anything else than where the agent is, is none."""
    (tmp_path / "line").write_text(line + "\n")
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\ncat '{tmp_path}/line'\nexec cat > /dev/null\n")
    path.chmod(0o700)
    remote = Remote(LocalTransport("liar", SHORT), "liar", str(path), "cache")
    assert code_of(lambda: remote.root) in ("no_python", "protocol")


# Events


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that has little to tell, so that it is soon too much."""
    monkeypatch.setattr(limits, "MAX_SPOOL_BYTES", 2 << 20)
    monkeypatch.setattr(limits, "MAX_EVENTS", 200)


def session(folder: Path, script: str) -> Session:
    device = Device(name="liar", kind="local", agent=AgentSettings(python=program(folder, script), cache_dir="cache"))
    return Session(device, "test", profiles.get("quick"), folder / "cache", say=lambda _: None, timeouts=SHORT)


TELLS = {
    "a million events": "for seq in range(1_000_000): event(seq)",
    "an event again and again": "while True: event(0)",
    "events backwards": "for seq in range(5, -1, -1): event(seq)",
    "a gap": "event(0); event(2); event(3, 'end')",
    "no beginning": "event(3, 'end')",
    "a number below zero": "event(-1)",
    "a line without end": FOREVER,
    "a large event": "event(0, text='x' * 2_000_000)",
    "large events": "for seq in range(10): event(seq, text='x' * 900_000)",
    "lists of lists": "for seq in range(10): event(seq, a=[[]] * 200_000)",
    "depth": """raw('{"v":1,"seq":0,"t":0.0,"type":"news","data":{"a":' + '[' * 10_000 + ']' * 10_000 + '}}')""",
    "another protocol": "say(v=2, seq=0, t=0.0, type='end', data={})",
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("script", TELLS.values(), ids=TELLS.keys())
def test_a_spool_out_of_bounds_is_refused(tmp_path: Path, script: str) -> None:
    """Too many events, too large ones, and such as are not the next one end the launch with `protocol`."""
    following = session(tmp_path, script)
    with memory_below(40 * limits.MAX_SPOOL_BYTES):
        assert code_of(lambda: following.collect("launch", lambda _: None)) == "protocol"
    following.abandon()


@pytest.mark.usefixtures("small")
def test_links_that_are_lost_again_and_again_bring_no_more(tmp_path: Path) -> None:
    """What a launch may tell is the same over any number of connections."""
    script = "start = asked['request']['from']\nfor seq in range(start, start + 3): event(seq, text='x' * 500_000)\nos.kill(os.getpid(), 9)"
    following = session(tmp_path, script)
    following.timeouts = Timeouts(reconnect_s=60.0, close_s=0.2)
    assert code_of(lambda: following.collect("launch", lambda _: None)) == "protocol"
    following.abandon()


# Files


def sample(size_bytes: int, metric: str = "latency_ns") -> dict[str, object]:
    shape = [size_bytes // 8]
    return {"metric": metric, "unit": "ns", "dtype": "int64", "shape": shape, "stride": 1, "sha256": "0" * 64, "size_bytes": size_bytes}


@pytest.mark.parametrize("size", [limits.MAX_FILE_BYTES + 1, -1, 10**18, "7", None])
def test_a_file_of_an_impossible_size_is_not_read(device: MakeRemote, size: object) -> None:
    """Its size is looked at before its bytes."""
    remote = device(f"say(v=1, ok={{'size_bytes': {size!r}}})\n{FOREVER}")
    assert code_of(lambda: remote.fetch("launch", SampleFile(**sample(8)))) == "protocol"  # type: ignore[arg-type]


def test_a_file_ends_where_its_size_says(device: MakeRemote) -> None:
    """Not a byte more is read of a device that goes on."""
    remote = device(f"say(v=1, ok={{'size_bytes': 8}})\n{FOREVER}")
    assert remote.fetch("launch", SampleFile(**sample(8))) == b"x" * 8  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [limits.MAX_FILES_BYTES // limits.MAX_FILE_BYTES + 1, 1])
def test_files_that_are_too_large_are_not_fetched(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, or all of a launch together; nobody asks the device for them."""
    monkeypatch.setattr(limits, "MAX_FILES_BYTES", 1000)
    fetched: list[SampleFile] = []

    def fetch(file: SampleFile) -> bytes:
        fetched.append(file)
        return bytes(file.size_bytes)

    size = 1008 if count == 1 else 400
    sha256 = hashlib.sha256(bytes(size)).hexdigest()
    events = [Event(1, at, 0.0, "sample", {**sample(size, f"a{at}"), "sha256": sha256}) for at in range(count)]
    assert code_of(lambda: collect.collect(events, fetch)) == "protocol"
    assert sum(file.size_bytes for file in fetched) <= 1000


# Commands


def test_what_a_command_prints_has_a_bound() -> None:
    """By default and where one is given."""
    transport = LocalTransport("liar", SHORT)
    with memory_below(4 * MAX_STDOUT_BYTES):
        assert code_of(lambda: transport.run(["yes"], timeout_s=60)) == "protocol"
    assert code_of(lambda: transport.run(["yes"], timeout_s=60, max_bytes=10)) == "protocol"


@pytest.mark.parametrize("pieces", [[b"x" * 1000] * 100, [b"\n"] * 70_000, [b"\n" + b"fleetmark-begins " + b"9" * 60_000 + b"\n"] * 2])
def test_a_login_shell_is_not_listened_to_for_ever(pieces: list[bytes]) -> None:
    """What comes before a command begins is dropped, up to a bound."""
    coming = iter(pieces)
    output = process.Output(lambda _: next(coming, b""), "liar")
    assert code_of(output.skip_banner) == "protocol"


# JSON


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"a":' * 10_000, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "9" * 5000, "1e999", "-Infinity", "NaN", '{"a":NaN}', ""],
)
def test_json_out_of_bounds_is_a_declared_error(text: str) -> None:
    """Depth that no stack holds, digits that Python does not read, and numbers that are none."""
    with pytest.raises(SchemaError):
        decode(text)
    with pytest.raises(SchemaError):
        decode(text.encode())


def test_json_of_the_greatest_depth_is_read() -> None:
    """The bound itself is within."""
    assert decode("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_a_record_is_not_read_deeper_than_it_is() -> None:
    """A field of any value takes what the depth allows, and no record takes a list for an object."""
    with pytest.raises(SchemaError):
        load(Probe, decode("[" * 31 + "]" * 31))


# SSH, before anybody is believed


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-liar\r\n" + struct.pack(">IB", 1 << 31, 4) + bytes(1 << 20),
        b"SSH-2.0-liar\r\n" + struct.pack(">IB", 0xFFFFFFFC, 4) + bytes(1 << 20),
        b"x" * (1 << 20),
        b"hello\r\n" * 200,
    ],
    ids=["a packet of 2 GiB", "a packet of 4 GiB", "a banner without end", "a banner of many lines"],
)
def test_a_server_that_floods_is_unreachable(said: bytes) -> None:
    """A packet or a banner larger than any server's is not waited for, nor room made for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as client:
                try:
                    while True:
                        client.sendall(said)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        with memory_below(200 << 20):
            settings = SshSettings("127.0.0.1", port=server.getsockname()[1], connect_timeout_s=5.0)
            assert code_of(lambda: connect("liar", settings)) == "unreachable"
        thread.join()


# Archives, on the device


def test_an_archive_that_unfolds_is_refused_before_it_does(tmp_path: Path) -> None:
    """A gzip of a few kilobytes that says it holds gigabytes is refused by its headers; what it says wrongly is not written."""
    cache = Cache(str(tmp_path / "cache"))
    cache.create()
    members = [tarfile.TarInfo(f"zeros{at}") for at in range(3)]
    buffer = io.BytesIO()
    for member in members:
        member.size = blobs.MAX_UNPACKED_BYTES // 2
        buffer.write(member.tobuf())
    packed = gzip.compress(buffer.getvalue() + bytes(10 << 20))
    sha256 = hashlib.sha256(packed).hexdigest()
    Path(cache.blob(sha256)).write_bytes(packed)
    assert len(packed) < 20_000
    assert code_of(lambda: blobs.install(cache, "env", sha256)) in ("protocol", "env_missing")
    assert os.listdir(cache.path("envs")) == []
