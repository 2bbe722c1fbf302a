"""Runs fuzzers side by side, each in a process of its own, and tells what they did and found."""

import hashlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MAX_INPUT_BYTES = 65_535
HANGS_S = 60  # of wall time, on a machine that may be busy; a worker counts its CPU time itself
HARD_LIMIT_MB = 4096
STARTS_WITHIN_S = 300.0
WORKER = (sys.executable, "-m", "fuzz.worker")
KEPT = Path(".fuzz")  # corpora grow from run to run, findings stay until somebody takes them away


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fuzzer did: inputs tried, edges of the code that they reached, the peak of its memory, and the inputs that are findings."""

    target: str
    executions: int
    edges: int
    inputs_kept: int
    peak_mb: int
    findings: tuple[Path, ...]
    log: Path
    ended_well: bool

    @property
    def failed(self) -> bool:
        """Whether there is anything to mend."""
        return bool(self.findings) or not self.ended_well


def run(targets: Sequence[str], seconds: int, jobs: int, seed: int = 0) -> list[Outcome]:
    """Fuzz each target for so long, `jobs` of them at a time; give the outcomes in order."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda target: fuzz(target, seconds, seed=seed), targets))


def fuzz(target: str, seconds: int, kept: Path = KEPT, seed: int = 0) -> Outcome:
    """Fuzz a target for so long, from its seeds and what earlier runs found to be of interest; chance begins at `seed`, anew for 0."""
    corpus, findings, log = kept / "corpus" / target, kept / "findings" / target, kept / f"{target}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"fuzz.targets.{target}")
    _write(corpus, module.seeds())
    words = _dictionary(kept / f"{target}.dict", getattr(module, "WORDS", ()))
    limits = [f"-timeout={HANGS_S}", f"-rss_limit_mb={HARD_LIMIT_MB}", f"-max_len={MAX_INPUT_BYTES}"]
    flags = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        *limits,
        "-print_final_stats=1",
        f"-artifact_prefix={findings}/",
        f"-dict={words}",
    ]
    command = [*WORKER, target, *flags, str(corpus)]
    with log.open("wb") as told, tempfile.TemporaryDirectory(prefix="fleetmark-fuzz-") as scratch:  # libFuzzer ends without a clean-up
        environ = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(command, stdout=told, stderr=told, env=environ, timeout=seconds + STARTS_WITHIN_S, check=False)
    return _outcome(target, findings, log, done.returncode == 0)


def _write(corpus: Path, seeds: Iterable[bytes]) -> None:
    for seed in seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def _dictionary(path: Path, words: Iterable[str]) -> Path:
    """A file of libFuzzer's: a word a line in quotes, other bytes than printable ASCII as hexadecimal digits."""
    plain = {
        word: "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word.encode())
        for word in words
    }
    path.write_text("".join(f'"{escaped}"\n' for escaped in plain.values()))
    return path


def _outcome(target: str, findings: Path, log: Path, ended_well: bool) -> Outcome:
    text = log.read_text("utf-8", "replace")
    states = re.findall(r"^#\d+\s+\w+\s+cov: (\d+) ft: \d+ corp: (\d+)", text, re.MULTILINE)
    edges, inputs_kept = map(int, states[-1]) if states else (0, 0)
    executions, peak_mb = (_stat(text, name) for name in ("number_of_executed_units", "peak_rss_mb"))
    return Outcome(target, executions, edges, inputs_kept, peak_mb, tuple(sorted(findings.iterdir())), log, ended_well)


def _stat(text: str, name: str) -> int:
    found = re.findall(rf"^stat::{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[-1]) if found else 0


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as a table of Markdown."""
    rows = [
        f"| {one.target} | {one.executions:,} | {one.edges:,} | {one.inputs_kept:,} | {one.peak_mb:,} | {_found(one)} |" for one in outcomes
    ]
    return "\n".join(["| target | executions | edges | inputs kept | peak (MB) | findings |", "|---|---|---|---|---|---|", *rows])


def _found(one: Outcome) -> str:
    return str(len(one.findings)) if one.findings or one.ended_well else "did not run"
