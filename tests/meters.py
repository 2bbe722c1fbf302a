"""Fake power meters: real HTTP servers on loopback that answer as HARDWARE.md's section 4 says, or misbehave."""

import hashlib
import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

REALM, NONCE = "shellyplus1pm-fake", "60dc59c6"
PATHS = {"gen1": "/meter/0", "gen2": "/rpc/Switch.GetStatus?id=0", "tasmota": "/cm?cmnd=Status%208"}


def answer(kind: str, power_w: object) -> dict[str, Any]:
    """What HARDWARE.md shows of each, with this power."""
    if kind == "gen1":
        return {"power": power_w, "is_valid": True, "timestamp": 1606215925, "counters": [48.663, 48.776, 46.173], "total": 394}
    if kind == "gen2":
        energy = {"total": 913.252}
        return {
            "id": 0,
            "output": True,
            "apower": power_w,
            "voltage": 239.7,
            "current": 0.188,
            "aenergy": energy,
            "temperature": {"tC": 68.1},
        }
    return {"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": {"Total": 6.04, "Power": power_w, "Voltage": 234, "Current": 0.111}}}


class FakeMeter(ThreadingHTTPServer):
    """A meter of a kind of PATHS that shows what `power_w` gives; `misbehave` takes the place of its answer."""

    def __init__(
        self,
        kind: str = "gen2",
        password: str = "",
        power_w: Callable[[], object] | None = None,
        misbehave: "Callable[[Handler], None] | None" = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        flicker = count()
        self.kind = kind
        self.password = password
        self.power_w = power_w or (lambda: 4.0 + next(flicker) % 2)
        self.misbehave = misbehave
        self.heard: list[str] = []  # requests with their headers
        self.done = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has hung up."""


class Handler(BaseHTTPRequestHandler):
    """One request to a fake meter."""

    server: FakeMeter

    def do_GET(self) -> None:
        self.server.heard.append(f"{self.path}\n{self.headers}")
        if self.server.misbehave is not None:
            self.server.misbehave(self)
        elif self.server.kind != "tasmota" and not self._may():
            self.say(b"", 401, {"WWW-Authenticate": self._challenge()})
        elif self.path != self._path() and self.server.kind == "tasmota":
            self.say(b'{"WARNING":"Need user=<username>&password=<password>"}')
        elif self.path != self._path():
            self.say(b"Not Found", 404)
        else:
            self.say(json.dumps(answer(self.server.kind, self.server.power_w())).encode())

    def _path(self) -> str:
        login = f"&user=admin&password={self.server.password}" if self.server.password and self.server.kind == "tasmota" else ""
        return PATHS[self.server.kind] + login

    def _challenge(self) -> str:
        if self.server.kind == "gen1":
            return f'Basic realm="{REALM}"'
        return f'Digest qop="auth", realm="{REALM}", nonce="{NONCE}", algorithm=SHA-256'

    def _may(self) -> bool:
        given, password = self.headers.get("Authorization", ""), self.server.password
        if not password:
            return True
        if self.server.kind == "gen1":
            return given == "Basic " + b64encode(f"admin:{password}".encode()).decode()
        said = dict(re.findall(r'(\w+)="?([^",]*)', given))
        first, second = sha256(f"admin:{REALM}:{password}"), sha256(f"GET:{self.path}")
        wanted = sha256(f"{first}:{NONCE}:{said.get('nc')}:{said.get('cnonce')}:auth:{second}")
        return said.get("uri") == self.path and said.get("nonce") == NONCE and said.get("response") == wanted

    def say(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing is printed."""


@contextmanager
def running(meter: FakeMeter) -> Iterator[FakeMeter]:
    """The meter, serving until the block ends."""
    thread = threading.Thread(target=meter.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield meter
    finally:
        meter.done.set()
        meter.shutdown()
        thread.join()
        meter.server_close()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
