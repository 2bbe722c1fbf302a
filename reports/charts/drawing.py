"""Draws specifications to SVG in processes of their own: drawing holds the interpreter, and more charts are declared meanwhile.

This file is those processes' program too, run by its path so that nothing else is imported: a line of JSON in, a line of JSON out.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Self

PROCESSES = 2
Draw = Callable[[Mapping[str, Any], str], Future[str]]  # a specification, of a version of Vega-Lite


def here(spec: Mapping[str, Any], version: str) -> Future[str]:
    """Draw in this process, at once; raises ValueError for what is no Vega-Lite."""
    drawn: Future[str] = Future()
    drawn.set_result(_svg(spec, version))
    return drawn


class Drawing:
    """Processes that draw, from the `with` statement's beginning to its end; for one that dies this process draws instead."""

    def __enter__(self) -> Self:
        """Start them, without waiting until they can draw."""
        command = [sys.executable, "-P", __file__]
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
            for _ in range(PROCESSES)
        ]
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(PROCESSES)
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.kill()
            process.communicate()

    def draw(self, spec: Mapping[str, Any], version: str) -> Future[str]:
        """Draw as soon as a process is idle; the result raises ValueError for what is no Vega-Lite."""
        return self._threads.submit(self._ask, spec, version)

    def _ask(self, spec: Mapping[str, Any], version: str) -> str:
        process = self._idle.get()
        assert process.stdin is not None  # noqa: S101  it is a pipe
        assert process.stdout is not None  # noqa: S101  it is a pipe
        try:
            print(json.dumps([spec, version]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())["svg"]
        except (OSError, ValueError, KeyError):
            return _svg(spec, version)
        finally:
            self._idle.put(process)


def _svg(spec: Mapping[str, Any], version: str) -> str:
    import vl_convert

    return vl_convert.vegalite_to_svg(dict(spec), vl_version=version)


def _answers() -> None:
    """Draw what stdin asks for, until it ends; the first drawing of a process takes long, so one is made before anyone asks."""
    _svg({"mark": "point", "data": {"values": []}, "encoding": {}}, "6.1")
    for line in sys.stdin:
        spec, version = json.loads(line)
        try:
            answer = {"svg": _svg(spec, version)}
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201  the protocol


if __name__ == "__main__":
    _answers()
