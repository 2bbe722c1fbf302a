"""Power meters that answer over HTTP in the local network: straight to the host that is named and nowhere else, bounded in time and size.

No proxy is used and no redirect followed. Credentials are sent only once they are asked for; what a meter says is never repeated in an
error, for it might repeat them.
"""
# JSON is of unknown type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import base64
import contextlib
import hashlib
import http.client
import os
import re
import socket
import sys
import threading
import time
from typing import Any, Dict, List, NamedTuple, Tuple
from urllib.parse import urlsplit

from agent.schema import SchemaError, decode
from agent.sensors import METER_PERIOD_S, METER_TIMEOUT_S, Found, PowerSensor, Reading, SensorError, watts
from agent.system import System

MAX_BYTES = 1 << 16
RAIL = "meter"


class NotThereError(SensorError):
    """There is no such page on the meter."""


class _Answer(NamedTuple):
    """`t` is the middle of the time in which it was asked for and came, monotonic seconds."""

    status: int
    challenge: str
    body: bytes
    t: float


class HttpMeter(PowerSensor):
    """The meter at option `url`; `user` and `password` log in, `period_s` is how often it measures, `timeout_s` how long one waits."""

    scope = "wall"
    period_s = METER_PERIOD_S

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.url = urlsplit(str(options.get("url") or ""))
        self.user, self.password = str(options.get("user") or "admin"), str(options.get("password") or "")
        self.channel = int(options.get("channel") or 0)
        self.period_s = float(options.get("period_s") or METER_PERIOD_S)
        self.timeout_s = float(options.get("timeout_s") or METER_TIMEOUT_S)
        self._challenge = ""
        self._answered = 0

    def ask(self, target: str) -> Tuple[Any, float]:
        """Return the JSON at a path of the meter and the time it is of; raises SensorError, NotThereError for 404."""
        answer = self._get(target)
        if answer.status == 401:
            if not self.password:
                raise self._error("it wants a password: say where, by `token` of the meter")
            self._challenge, self._answered = answer.challenge, 0
            answer = self._get(target)
        if answer.status != 200:
            raise self._refusal(answer.status)
        try:
            return decode(answer.body), answer.t
        except SchemaError:
            raise self._error("its answer is not JSON") from None

    def reading(self, answer: Any, t: float, *keys: str) -> List[Reading]:
        """Return the power in W that lies below `keys` in an answer; raises SensorError."""
        power_w = below(answer, *keys)
        if not isinstance(power_w, (int, float)) or isinstance(power_w, bool) or abs(power_w) > sys.maxsize:
            raise self._error("its answer has no number as {}".format(".".join(keys)))
        return [Reading(RAIL, t, watts(float(power_w), "{} at {}".format(self.name, self.url.hostname)))]

    def found(self, details: Dict[str, str]) -> Found:
        """Return what is found of a meter that answered."""
        return Found(self.scope, [RAIL], (RAIL,), "", {}, details)

    def _get(self, target: str) -> _Answer:
        """One request on a connection of its own, which is cut when the answer is not there in time, however it trickles."""
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        late = threading.Event()
        connection = kind(self.url.hostname or "", self.url.port, timeout=self.timeout_s)
        with contextlib.closing(connection):
            try:
                connection.connect()
                timer = threading.Timer(self.timeout_s, _cut, [connection.sock, late])
                timer.daemon = True
                timer.start()
                try:
                    answer = self._exchange(connection, self.url.path.rstrip("/") + target)
                finally:
                    timer.cancel()
            except (OSError, OverflowError, ValueError, http.client.HTTPException) as error:
                if late.is_set() or isinstance(error, socket.timeout):
                    raise self._late() from None
                raise self._error(getattr(error, "strerror", None) or "its answer is not HTTP") from None
        if late.is_set():
            raise self._late()
        if len(answer.body) > MAX_BYTES:
            raise self._error("its answer is longer than {} bytes".format(MAX_BYTES))
        return answer

    def _exchange(self, connection: http.client.HTTPConnection, target: str) -> _Answer:
        begin = time.monotonic()
        connection.request("GET", target, headers={"Connection": "close", **self._authorization(target)})
        with connection.getresponse() as response:
            body = _body(response)
        return _Answer(response.status, response.headers.get("WWW-Authenticate", ""), body, (begin + time.monotonic()) / 2)

    def _authorization(self, target: str) -> Dict[str, str]:
        """What the last challenge wants: Basic, or Digest with SHA-256, which the urllib of Python 3.11 has not."""
        scheme, _, rest = self._challenge.partition(" ")
        if scheme.lower() == "basic":
            login = base64.b64encode("{}:{}".format(self.user, self.password).encode("utf-8")).decode("ascii")
            return {"Authorization": "Basic " + login}
        if scheme.lower() != "digest":
            return {}
        asked = dict(re.findall(r'(\w+)="?([^",\\\x00-\x1f\x7f-\U0010ffff]*)', rest))
        self._answered += 1
        fields = {
            "username": self.user,
            "realm": asked.get("realm", ""),
            "nonce": asked.get("nonce", ""),
            "uri": target,
            "cnonce": os.urandom(8).hex(),
            "response": "",
        }
        count = "{:08x}".format(self._answered)
        secret = _sha256(self.user, fields["realm"], self.password)
        fields["response"] = _sha256(secret, fields["nonce"], count, fields["cnonce"], "auth", _sha256("GET", target))
        quoted = ", ".join('{}="{}"'.format(name, value) for name, value in fields.items())
        return {"Authorization": "Digest {}, nc={}, qop=auth, algorithm=SHA-256".format(quoted, count)}

    def _refusal(self, status: int) -> SensorError:
        if status == 404:
            return NotThereError(str(self._error("it answers 404")))
        why = ": its user or password is another" if status in (401, 403) else ": redirects are not followed" if 300 <= status < 400 else ""
        return self._error("it answers {}{}".format(status, why))

    def _late(self) -> SensorError:
        return self._error("no answer within {:g} s".format(self.timeout_s))

    def _error(self, what: str) -> SensorError:
        return SensorError("{} at {}: {}".format(self.name, self.url.hostname, what))


def below(answer: Any, *keys: str) -> Any:
    """Return what lies below `keys` in JSON, None where nothing does."""
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def _body(response: http.client.HTTPResponse) -> bytes:
    """As much of the body as is of interest, in pieces: of a chunk of less than no bytes `read` would take all that comes."""
    body = b""
    while len(body) <= MAX_BYTES:
        piece = response.read1(MAX_BYTES)
        if not piece:
            break
        body += piece
    return body


def _cut(sock: Any, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _sha256(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode("utf-8")).hexdigest()
