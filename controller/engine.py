"""Where compression runs: local processes, so that a library that dies takes one job with it and not the run."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from agent.schema import FaultError

WORKERS = 2
J = TypeVar("J")
R = TypeVar("R")


def run(work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | FaultError]]:
    """Yield each job with its result, or its FaultError, as they come; other exceptions of `work` are raised.

    `work` and the jobs must be picklable. A job whose process died gets a second try alone, then the fault `crash`.
    """
    suspects: list[J] = []
    with _pool(min(WORKERS, len(jobs) or 1)) as pool:
        futures: dict[Future[R], J] = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], _outcome(future)
                except BrokenProcessPool:
                    suspects.append(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for job in suspects:
        with _pool(1) as pool:
            try:
                yield job, _outcome(pool.submit(work, job))
            except BrokenProcessPool:
                yield job, FaultError("crash", "the process that compressed it died", "see whether the recipe suits the model", "compress")


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _outcome(future: Future[R]) -> R | FaultError:
    try:
        return future.result()
    except FaultError as error:
        return error
