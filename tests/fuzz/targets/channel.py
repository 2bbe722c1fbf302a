"""What comes over a channel before and after a command has begun: a login shell's words, the marker, lines and bytes; cut anywhere.

The first byte says how long the pieces are that it comes in.
"""

from collections.abc import Iterator

from agent.schema import FaultError
from controller import process, shellwords
from controller.process import Output

DECLARED = (FaultError,)
MARKER = shellwords.MARKER.encode()
WORDS = (shellwords.MARKER, f"\n{shellwords.MARKER} 1\n", "999999999", "\n", "\r\n", "\x1b[2J")
LIMIT = 4096


def seeds() -> Iterator[bytes]:
    """A command behind a banner, one whose process group nobody knows, one that never begins."""
    yield b"\x05Welcome\n\n" + MARKER + b" 4242\nline 1\nline 2\nthe rest"
    yield b"\xff" + MARKER + b" \n" + b"x" * 3000 + b"\n\n"
    yield b"\x01no such shell\n"


def one(data: bytes) -> None:
    """After the marker every byte comes once and in order, as lines or not; whatever has no end is refused."""
    step, sent = (data[0] or 1 if data else 1), data[1:]
    pieces = iter([sent[at : at + step] for at in range(0, len(sent), step)])
    output = Output(lambda _: next(pieces, b""), "device: command")
    group = output.skip_banner()
    assert 0 <= group < 10**9
    came = bytearray()
    for line in iter(lambda: output.readline(LIMIT), b""):
        assert 0 < len(line) <= LIMIT
        assert b"\n" not in line[:-1]
        came += line
        if len(came) > process.CHUNK_BYTES // 4:
            came += output.read_all(len(sent))
    assert sent.endswith(bytes(came))
