"""Where compression runs: processes of this machine, or a Dask cluster; the same jobs by the same code."""
# distributed is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from agent import VERSION
from agent.schema import Fault, FaultError
from controller.errors import FleetmarkError

WORKERS = 2
LOCAL = "local"
DASK = "dask://"
CONNECT_S = 10.0
DIED = Fault("crash", "compress", "the process that compressed it died", "see whether the recipe suits the model")
J = TypeVar("J")
R = TypeVar("R")


class Engine(Protocol):
    """Runs jobs."""

    @property
    def is_here(self) -> bool:
        """Whether the jobs see this machine's files."""
        ...

    def run(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | Fault]]:
        """Yield each job with its result, or its fault, as they come; exceptions of `work` other than FaultError are raised.

        `work` and the jobs must be picklable. A job whose process died is run again, then it has the fault `crash`. Whoever stops
        taking results cancels the rest.
        """
        ...


def choose(text: str, workers: int = WORKERS) -> Engine:
    """The engine called `local`, or the cluster at dask://host:port; raises FleetmarkError."""
    if text == LOCAL:
        return Local(workers)
    if text.startswith(DASK) and len(text) > len(DASK):
        return Dask("tcp://" + text.removeprefix(DASK))
    raise FleetmarkError(f"no engine is called {text!r}", next=f"use {LOCAL}, or {DASK}host:port of a Dask scheduler")


@dataclass(frozen=True, slots=True)
class Local:
    """Processes of this machine, `workers` at once, so that a library that dies takes one job with it and not the run."""

    workers: int = WORKERS
    is_here: bool = True

    def run(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | Fault]]:
        """As Engine.run."""
        suspects: list[J] = []
        with _pool(min(self.workers, len(jobs) or 1)) as pool:
            futures: dict[Future[R | Fault], J] = {pool.submit(_guarded, work, job): job for job in jobs}
            try:
                for future in as_completed(futures):
                    try:
                        yield futures[future], future.result()
                    except BrokenProcessPool:
                        suspects.append(futures[future])
            except BaseException:
                _end(pool)
                raise
        for job in suspects:
            with _pool(1) as pool:
                try:
                    yield job, pool.submit(_guarded, work, job).result()
                except BrokenProcessPool:
                    yield job, DIED


@dataclass(frozen=True, slots=True)
class Dask:
    """The workers of a cluster; `address` is its scheduler's. They need this version of fleetmark, and the extras that the recipes use."""

    address: str
    is_here: bool = False

    def run(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | Fault]]:
        """As Engine.run; the scheduler runs a dead worker's jobs again on others."""
        with _client(self.address) as client:
            _check_versions(client)
            from distributed import as_completed as as_they_come

            futures = {client.submit(_guarded, work, job, pure=False): job for job in jobs}
            try:
                for future in as_they_come(futures, raise_errors=False):
                    yield futures[future], _result(future)
            finally:
                client.cancel([future for future in futures if not future.done()])


def _result(future: Any) -> Any:
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return DIED


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise FleetmarkError(f"distributed cannot be imported: {error}", next="install fleetmark[dask]") from None
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise FleetmarkError(f"no Dask scheduler answers at {address}: {error}", next="start one, or use --engine local") from error


def _check_versions(client: Any) -> None:
    """Raises FleetmarkError for a cluster without workers, or with workers that have another version of fleetmark or none."""
    found: dict[str, Any] = client.run(_version, on_error="return")
    if not found:
        raise FleetmarkError("the Dask cluster has no workers", next="start some: dask worker ADDRESS")
    for worker, version in found.items():
        if version != VERSION:
            said = f"fleetmark {version}" if isinstance(version, str) else f"no fleetmark ({version})"
            raise FleetmarkError(f"the Dask worker {worker} has {said}, this is {VERSION}", next="install the same version there")


def _version() -> str:
    return VERSION


def _guarded(work: Callable[[J], R], job: J) -> R | Fault:
    """In the other process: a fault goes back as a value, for a FaultError does not survive pickling."""
    try:
        return work(job)
    except FaultError as error:
        return error.fault
    except MemoryError:
        return Fault("oom", "compress", "there was not enough memory to compress it", "use fewer --jobs, or a machine with more")
    except _Stopped as stopped:
        os._exit(stopped.number)  # or it would begin the next job


class _Stopped(SystemExit):
    """This worker is to end; what it was doing is cleaned up on the way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """In a worker: end, with whatever it started, at a signal, and when the process that it works for has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stop(number: int, _: object) -> None:
    raise _Stopped(number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _end(pool: ProcessPoolExecutor) -> None:
    workers = list(pool._processes.values())  # pyright: ignore[reportPrivateUsage] - Python 3.14 has terminate_workers
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
