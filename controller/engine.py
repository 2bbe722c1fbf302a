"""Where compression runs: local processes, so that a library that dies takes one job with it and not the run."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from agent.schema import Fault, FaultError

WORKERS = 2
J = TypeVar("J")
R = TypeVar("R")


def run(work: Callable[[J], R], jobs: Sequence[J], workers: int = WORKERS) -> Iterator[tuple[J, R | Fault]]:
    """Yield each job with its result, or its fault, as they come; exceptions of `work` other than FaultError are raised.

    `work` and the jobs must be picklable. A job whose process died gets a second try alone, then the fault `crash`.
    """
    suspects: list[J] = []
    with _pool(min(workers, len(jobs) or 1)) as pool:
        futures: dict[Future[R | Fault], J] = {pool.submit(_guarded, work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    suspects.append(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for job in suspects:
        with _pool(1) as pool:
            try:
                yield job, pool.submit(_guarded, work, job).result()
            except BrokenProcessPool:
                yield job, Fault("crash", "compress", "the process that compressed it died", "see whether the recipe suits the model")


def _guarded(work: Callable[[J], R], job: J) -> R | Fault:
    """In the other process: a fault goes back as a value, for a FaultError does not survive pickling."""
    try:
        return work(job)
    except FaultError as error:
        return error.fault


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
