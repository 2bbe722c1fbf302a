"""What a power meter in the network answers, as it comes from the wire: the meter's number, then answers behind each other."""

import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from unittest import mock

from meters import answer

from agent.sensors import MAX_POWER_W, SensorError, shelly, tasmota
from agent.sensors.http_meter import HttpMeter
from agent.system import System
from fuzz.mutation import json_lines

DECLARED = (SensorError,)
WORDS = (
    *("HTTP/1.1 200 OK\r\n", "HTTP/1.1 401 Unauthorized\r\n", "HTTP/1.0 404 X\r\n", "HTTP/1.1 100 Continue\r\n", "HTTP/1.1 302 Found\r\n"),
    *(
        "Content-Length: 3\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Location: http://x/\r\n",
        "\r\n\r\n",
        "ffffffff\r\n",
    ),
    *('WWW-Authenticate: Digest qop="auth", realm="r", nonce="1", algorithm=SHA-256\r\n', "WWW-Authenticate: Basic realm=x\r\n"),
)
KINDS: tuple[tuple[str, type[HttpMeter]], ...] = (("gen1", shelly.Shelly), ("gen2", shelly.Shelly), ("tasmota", tasmota.Tasmota))
END = b"\x1e"
OPTIONS = {"url": "http://192.0.2.1", "user": "admin", "password": "secret", "timeout_s": 30.0}
mutate = json_lines


class FakeSocket:
    """A connection whose other end has said all that it will say."""

    def __init__(self, said: bytes) -> None:
        self.said = io.BytesIO(said)

    def makefile(self, *_: object) -> io.BytesIO:
        return self.said

    def sendall(self, data: bytes) -> None:
        """Not a byte of a request ends a line that it should not end."""
        head, _, rest = data.partition(b"\r\n\r\n")
        assert not rest
        assert all(b"\n" not in line and b"\r" not in line for line in head.split(b"\r\n"))

    def shutdown(self, how: int) -> None:
        """Nobody hears it."""

    close = settimeout = setsockopt = lambda *_: None


def seeds() -> Iterator[bytes]:
    """A plain answer of each, one behind a challenge, one in chunks."""
    challenge = b'HTTP/1.1 401 X\r\nWWW-Authenticate: Digest qop="auth", realm="shelly", nonce="60dc59c6", algorithm=SHA-256\r\n\r\n'
    for at, (kind, _) in enumerate(KINDS):
        body = json.dumps(answer(kind, 4.25)).encode()
        plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n\n%s" % (len(body) + 1, body)
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n\n%s\r\n0\r\n\r\n" % (len(body) + 1, body)
        older = [b"HTTP/1.1 404 X\r\n\r\n"] if kind == "gen1" else []  # a Shelly is asked first whether it is of the second generation
        yield b"%d" % at + END.join([*older, plain, plain])
        yield b"%d" % at + END.join([*older, challenge, chunked, chunked])


def one(data: bytes) -> None:
    """A reading is a power; an error repeats nothing of the answer."""
    _, kind = KINDS[(data[0] if data else 0) % len(KINDS)]
    answers = iter(data[1:].split(END))

    def connect(connection: Any) -> None:
        connection.sock = FakeSocket(next(answers, b""))

    meter = kind(System("/"), OPTIONS)
    with mock.patch.object(HTTPConnection, "connect", connect):
        if not meter.probe().problem:
            assert all(0 <= reading.value < MAX_POWER_W for reading in meter.read())
