"""A TCP proxy in front of a device: its link can be cut, refused, slowed down, or left half-open."""

import socket
import threading
import time
from contextlib import suppress

CHUNK_BYTES = 16384


class Proxy:
    """Forwards a loopback port of its own to `target`, another address."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._refusing = False
        self._slow_bytes_per_s = 0.0
        self._left_bytes: int | None = None  # that clients may still send before the link is cut
        self._flowing = threading.Event()
        self._flowing.set()
        self._links: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every link."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            _close(link)

    def cut_after(self, size_bytes: int) -> None:
        """Close every link once clients have sent so many bytes more."""
        self._left_bytes = size_bytes

    def refuse(self, on: bool) -> None:
        """Close new links at once, or take them again."""
        self._refusing = on

    def stall(self, on: bool) -> None:
        """Drop what is sent, either way, without closing a link; what was held back goes on afterwards."""
        self._flowing.clear() if on else self._flowing.set()

    def slow_down(self, bytes_per_s: float) -> None:
        """Forward no more than that on each link, either way; 0 for as much as there is."""
        self._slow_bytes_per_s = bytes_per_s

    def close(self) -> None:
        """End the proxy and every link."""
        self.refuse(True)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.stall(False)
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._refusing:
                raise ConnectionRefusedError
            server = socket.create_connection(self._target, 10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._links |= {client, server}
        back = threading.Thread(target=self._forward, args=(server, client, False), daemon=True)
        back.start()
        self._forward(client, server, True)
        back.join()
        for link in (client, server):
            self._links.discard(link)
            link.close()

    def _forward(self, source: socket.socket, sink: socket.socket, upward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._flowing.wait()
                if self._slow_bytes_per_s:
                    time.sleep(len(data) / self._slow_bytes_per_s)
                sink.sendall(data)
                if upward:
                    self._count(len(data))
        _close(source)
        _close(sink)

    def _count(self, size_bytes: int) -> None:
        if self._left_bytes is None:
            return
        self._left_bytes -= size_bytes
        if self._left_bytes <= 0:
            self._left_bytes = None
            self.cut()


def _close(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
