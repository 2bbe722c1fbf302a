"""Folders that are made once and appear whole or not at all."""

import fcntl
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


def once(folder: Path, valid: Callable[[Path], bool], make: Callable[[Path], None]) -> None:
    """Makes `folder` unless it is there and `valid`.

    `make` fills an empty folder beside it, which is renamed when it returns; what an exception or a killed process leaves is removed.
    Of several processes that want the same folder one makes it and the others wait for it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    with _locked(folder.with_name(folder.name + ".lock")):
        if folder.is_dir() and valid(folder):
            return
        for leftover in (partial, folder):
            if leftover.exists():
                shutil.rmtree(leftover)
        partial.mkdir()
        try:
            make(partial)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Holds an exclusive lock; it ends with the process at the latest."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
