"""A run's timeline as Chrome Trace Events, which Perfetto reads: a track for the controller and one for each device."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from agent import VERSION
from controller.context import ids
from controller.listener import label
from controller.redaction import REDACTOR
from controller.session import Job
from controller.timeline import Span, Step, placed

CONTROLLER = ""  # the track that is no device's
IDLE = "wait"  # for the device's turn, its lease or its temperature
MAX_NAME = 200


class Trace:
    """Remembers what is told of a run; `text` is its timeline until now.

    A device's phases are placed by its own clock, which is set by the event that came fastest: what it does not tell at once, as
    while it measures, would be late otherwise. `clock` of a slice says whose time it began at.
    """

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock, self._lock = run, clock, threading.Lock()
        self._begun, self._begin_s = datetime.now(UTC), clock()
        self._tracks: dict[str, Span] = {}  # what each does now
        self._last: dict[str, Span] = {}  # launch by cell
        self._numbers: dict[str, int] = {}
        self._events: list[dict[str, Any]] = []
        self.phase(CONTROLLER, "prepare")

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        """Remember that there is nothing left to prepare."""
        del left_s
        self.phase(CONTROLLER, f"measure {launches} launches")

    def say(self, text: str) -> None:
        """Remember a line of news as an instant."""
        with self._lock:
            self._add(CONTROLLER, "i", text, self._clock(), cat="news", s="t")

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Remember what a device does from now on."""
        with self._lock:
            now_s, launch = self._clock(), ids().get("launch", "")
            span = self._tracks.get(device)
            if job is None or span is None or (span.args.get("cell"), span.args.get("launch")) != (job.id, launch):
                span = self._begin(device, job, launch, now_s)
            span.steps.append(Step(phase, now_s, clock_s))

    def landed(self, job: Job, status: str) -> None:
        """Remember how a launch ended."""
        with self._lock:
            span = self._last.pop(job.id, None)
            if span is None:
                return
            span.args["status"] = status
            if span is self._tracks.get(job.cell.device):  # it was lost
                self._end(job.cell.device, self._clock())

    def _begin(self, device: str, job: Job | None, launch: str, now_s: float) -> Span:
        self._end(device, now_s)
        self._tracks[device] = span = Span(now_s)
        if job is not None:
            span.name, span.args = label(job), {"cell": job.id, "launch": launch}
            if job.id in self._last:
                self._last[job.id].args["status"] = "measured again"
            self._last[job.id] = span
        return span

    def _end(self, device: str, end_s: float) -> None:
        span = self._tracks.pop(device, None)
        if span is None:
            return
        if span.name:
            self._add(device, "X", span.name, span.begin_s, end_s, cat="launch", args=span.args)
        for step, begin_s, until_s in placed(span.steps, end_s):
            args = {"clock": "controller" if step.clock_s is None else "device"}
            self._add(device, "X", step.name, begin_s, until_s, cat="phase", args=args)

    def _add(self, device: str, kind: str, name: str, begin_s: float, end_s: float | None = None, **more: Any) -> None:
        """Add an event. Both ends are rounded alike, so that what is nested, or next to each other, still is."""
        number = self._numbers.setdefault(device, len(self._numbers) + 1)
        begin, end = (round((at - self._begin_s) * 1e6) for at in (begin_s, begin_s if end_s is None else end_s))
        length = {} if end_s is None else {"dur": end - begin}
        self._events.append({"ph": kind, "name": name[:MAX_NAME], "pid": 1, "tid": number, "ts": begin, **length, **more})

    def text(self) -> str:
        """Give the JSON document."""
        with self._lock:
            now_s = self._clock()
            for device in list(self._tracks):
                if [step.name for step in self._tracks[device].steps] != [IDLE]:  # for nothing more
                    self._end(device, now_s)
            events = [*self._labels(), *sorted(self._events, key=lambda event: (event["tid"], event["ts"], -event.get("dur", 0)))]
        other = {"fleetmark": VERSION, "run": self._run, "begun": self._begun.isoformat(timespec="milliseconds")}
        return json.dumps(REDACTOR.document({"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}))

    def _labels(self) -> Iterator[dict[str, Any]]:
        yield {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": f"fleetmark run {self._run}"}}
        for device, number in self._numbers.items():
            yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": device or "controller"}}
            yield {"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": number, "args": {"sort_index": number}}
