"""Draws specifications to SVG in a process of its own: drawing holds the interpreter, and more charts are declared meanwhile.

This file is that process's program too, run by its path so that nothing else is imported: a line of JSON in, a line of JSON out.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

Draw = Callable[[Mapping[str, Any], str], Future[str]]  # a specification, of a version of Vega-Lite


def here(spec: Mapping[str, Any], version: str) -> Future[str]:
    """Draw in this process, at once; raises ValueError for what is no Vega-Lite."""
    drawn: Future[str] = Future()
    drawn.set_result(_svg(spec, version))
    return drawn


class Drawing:
    """A process that draws, from the `with` statement's beginning to its end; where it dies this process draws instead."""

    def __enter__(self) -> Self:
        """Start it, without waiting until it can draw."""
        command = [sys.executable, "-P", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._thread.shutdown(cancel_futures=True)
        self._process.kill()
        self._process.communicate()

    def draw(self, spec: Mapping[str, Any], version: str) -> Future[str]:
        """Draw when those asked for before are drawn; the result raises ValueError for what is no Vega-Lite."""
        return self._thread.submit(self._ask, spec, version)

    def _ask(self, spec: Mapping[str, Any], version: str) -> str:
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        try:
            print(json.dumps([spec, version]), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())["svg"]
        except (OSError, ValueError, KeyError):
            return _svg(spec, version)


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
