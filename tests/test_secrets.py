"""No secret of an inventory or of this machine's environment is stored, shown or exported, and none stands on a command line."""

import base64
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import tiny_models
from device_commands import FLEETMARK
from hypothesis import example, given
from hypothesis import strategies as st
from sshd import Sshd
from typer.testing import CliRunner

from controller import redaction
from controller.cli.__main__ import app
from controller.errors import FleetmarkError, render
from controller.redaction import MIN_CHARACTERS, REDACTED, Redactor
from controller.store import Store

SECRETS = {
    "HF_TOKEN": "tok-9f'8e\"7d $HOME % ü\\n",  # of the inventory, by env:
    "SERVICE_CREDENTIALS": "credentials of the service",  # of the inventory, in the open
    "REGISTRY_PASSWORD": "p4ss;word&of=registry",  # of the inventory, by file:
    "LAB_API_KEY": "key of this machine 0123456789",  # of the environment alone
}
FORMATS = ("csv", "json", "markdown", "junit", "openmetrics")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def forms(secret: str) -> set[str]:
    """A secret as programs print it."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret), encoded}


def knowing(*secrets: str) -> Redactor:
    made = Redactor()
    made.learn(*secrets)
    return made


@given(TEXTS, st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=MIN_CHARACTERS, max_size=30), TEXTS)
@example("", "abc\"'def", "")
def test_a_secret_is_redacted_in_every_form(before: str, secret: str, after: str) -> None:
    """However a program prints it, between whatever; what is redacted stays as it is when it is redacted again."""
    redactor = knowing(secret)
    for form in forms(secret):
        shown = redactor.redact(f"{before}{form}{after}")
        assert form in REDACTED or form not in shown.replace(REDACTED, "\n")
        assert redactor.redact(shown) == shown or secret in REDACTED


@given(st.integers(MIN_CHARACTERS, 19), st.sampled_from(["", "'", "...", "\ufffd"]))
def test_a_secret_that_was_cut_off_is_redacted(size: int, end: str) -> None:
    """The tail of a log may begin within a secret, and a message cut short may end within one."""
    secret = "Abcdefghij-0123456789"
    redactor = knowing(secret)
    assert redactor.redact(f"log: {secret[:size]}{end}") == f"log: {REDACTED}{end}"
    assert redactor.redact(f"{end}{secret[-size:]} and more") == f"{end}{REDACTED} and more"


@given(st.lists(st.sampled_from(["conv", "latency", "12.5", "ms", "at", "0x7f", "C:\\x", "a=b", "OMP_NUM_THREADS=4", "(", "'", "\n"])))
def test_ordinary_text_stays_as_it_is(words: list[str]) -> None:
    """A line of a runtime's log with nothing secret in it is not touched."""
    text = " ".join(words)
    assert knowing("a secret of this test").redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://lab:SECRET00@db/x",
        "GET https://SECRET00@host/path failed",
        "http://h/rpc?channel=0&token=SECRET00",
        "> Authorization: Basic SECRET00",
        "{'Authorization': 'Digest username=\"a\", response=\"SECRET00\"'}",
        "curl -H Bearer SECRET00SECRET00SECRET00",
        "AKIASECRET00SECRET00",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET00\nSECRET00\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET00, cut off",
        "WANDB_API_KEY=SECRET00",
        "environ({'DB_PASSWORD': 'SECRET00 SECRET00', 'LANG': 'C'})",
        '{"token": "SECRET00"}',
    ],
)
def test_what_looks_like_a_secret_is_redacted(text: str) -> None:
    """Nobody has to know it: a login in a URL, a header, a private key, a variable that is called so, as of a device's own environment."""
    shown = Redactor().redact(f"before {text}")
    assert "SECRET00" not in shown
    assert shown.startswith("before ")
    assert REDACTED in shown


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "GCP_CREDENTIALS", "API_KEY_2", "DB_PASS", "X_AUTH"])
def test_variables_called_like_a_secret_hold_one(name: str) -> None:
    assert redaction.is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "PWD", "SSH_AUTH_SOCK", "KEYBOARD", "PATH", "LD_LIBRARY_PATH"]
)
def test_other_variables_hold_none(name: str) -> None:
    """Or their values, such as 4 or a folder, would be missing wherever they stand."""
    assert not redaction.is_secret_name(name)


def test_what_is_long_and_hostile_takes_no_time() -> None:
    """Texts that make a regular expression go back and forth are done before the test's patience is."""
    for text in (
        "A_KEY=" * 4000,
        "://" * 8000,
        "eyJ-" * 4000,
        "-----BEGIN PRIVATE KEY-----" * 600,
        'A_KEY="' * 3000,
        "Authorization:" * 2000,
    ):
        assert len(Redactor().redact(text)) <= 2 * len(text)


def test_errors_are_told_without_secrets() -> None:
    """In what failed, why, and what to do."""
    url = "postgresql://lab:hunter2hunter2@db/x"
    shown = render(FleetmarkError(f"cannot open {url}", f"first\n{url}", f"fleetmark --store {url}"))
    assert "hunter2" not in shown
    assert shown.count(REDACTED) == 3


def test_a_store_writes_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever document is stored, its texts and the names in it go through the redactor."""
    monkeypatch.setattr(redaction, "REDACTOR", knowing("a secret of this test"))
    store = Store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "fleetmark.db")) as reader:  # whoever reads it meanwhile keeps its journal
        reader.execute("begin")
        reader.execute("select * from runs").fetchall()
        provenance = {"a secret of this test": ["", {"deep": "with a secret of this test in it"}], "n": 1.5}
        store.create_run("run", "2026-01-01T00:00:00+00:00", {"provenance": provenance})
        assert store.find_run("run").document["provenance"] == {REDACTED: ["", {"deep": f"with {REDACTED} in it"}], "n": 1.5}
        written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert REDACTED.encode() in written["fleetmark.db-wal"]
    assert all(b"a secret of this test" not in content for content in written.values())


TELLTALE = """import glob, json, os, sys
print(os.environ, json.dumps(dict(os.environ)), *(f"{name}={value}" for name, value in os.environ.items()), sep="\\n", file=sys.stderr)
with open(os.environ["SHOWN"], "ab") as shown:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            shown.write(open(path, "rb").read() + b"\\n")
        except OSError:
            pass
"""


class Lab:
    """A folder with an inventory of one device, whose workers first print their environment, and note what `ps` shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = folder / "what ps shows"
        (folder / "modules").mkdir()
        (folder / "modules" / "sitecustomize.py").write_text(TELLTALE)
        (folder / "password").write_text(SECRETS["REGISTRY_PASSWORD"] + "\n")
        self.environ = {**os.environ, "A_TOKEN": SECRETS["HF_TOKEN"], "LAB_API_KEY": SECRETS["LAB_API_KEY"], "COLUMNS": "400"}
        self.environ["FLEETMARK_CACHE"] = str(folder / "cache")

    def write(self, python: str = "", **device: object) -> None:
        """The inventory, which is JSON too."""
        variables = {"HF_TOKEN": "env:A_TOKEN", "SERVICE_CREDENTIALS": SECRETS["SERVICE_CREDENTIALS"], "REGISTRY_PASSWORD": "file:password"}
        variables |= {"PYTHONPATH": str(self.folder / "modules"), "SHOWN": str(self.shown)}
        agent = {"cache_dir": str(self.folder / "agent"), "env": variables, **({"python": python} if python else {})}
        (self.folder / "inventory.yaml").write_text(json.dumps({"version": 1, "devices": {"board": {"agent": agent, **device}}}))

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command prints, on both streams."""
        done = subprocess.run([FLEETMARK, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode in codes, done
        return done.stdout + done.stderr


def printed(*words: str) -> str:
    """What a command prints that runs in this process."""
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def leaks(content: bytes | str) -> list[str]:
    """The names of the secrets that stand in it."""
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    return [name for name, secret in SECRETS.items() if any(form in text for form in forms(secret))]


def test_no_secret_leaves_a_run(tmp_path: Path) -> None:
    """After a run whose worker printed its environment: none in the store, its journal, the report, any export, what was told, or `ps`."""
    lab = Lab(tmp_path)
    lab.write(kind="local")
    tiny_models.onnx_model(tmp_path / "tiny.onnx")
    told = lab.run("run", "tiny.onnx", "-b", "onnxruntime", "--profile", "quick", "--launches", "1", codes=(0, 3))
    told += lab.run("device", "list", "--json")
    results = ("--results", str(tmp_path / "results"))  # what follows does not know the secrets: they are not in the store
    told += printed("runs", "show", "--json", *results)
    for to in FORMATS:
        told += printed("export", "--to", to, *results)
    printed("export", "--to", "parquet", "-o", str(tmp_path / "table.parquet"), *results)
    printed("export", "--raw", "--to", "csv", "-o", str(tmp_path / "raw.csv"), *results)
    with closing(sqlite3.connect(tmp_path / "results" / "fleetmark.db")) as database:
        (log,) = next(database.execute("select json_extract(document, '$.log_tail') from launches"))
    assert [name for name in SECRETS if f"{name}={REDACTED}" not in log] == []  # the worker had them, and printed them
    assert leaks(told) == []
    folders = [(tmp_path / "results").rglob("*"), (tmp_path / "cache").rglob("*"), tmp_path.glob("*.parquet"), tmp_path.glob("*.csv")]
    written = [path for folder in folders for path in folder if path.is_file()]
    assert {path.name for path in written} >= {"fleetmark.db", "report.html", "manifest.json", "table.parquet", "raw.csv"}
    assert {path.name: leaks(path.read_bytes()) for path in written} == {path.name: [] for path in written}
    assert b"worker" in lab.shown.read_bytes()
    assert leaks(lab.shown.read_bytes()) == []


def test_no_secret_stands_on_a_command_line_of_either_side(tmp_path: Path, shared_sshd: Sshd) -> None:
    """A device over SSH gets its variables by standard input, and what it prints of them is not shown."""
    lab = Lab(tmp_path)
    settings = {"host": "127.0.0.1", "port": shared_sshd.port, "user": shared_sshd.user, "host_key": shared_sshd.host_key}
    lab.write(kind="generic", ssh={**settings, "config": str(shared_sshd.config)}, python=sys.executable)
    assert leaks(lab.run("device", "probe", "board")) == []
    assert b"probe" in lab.shown.read_bytes()
    assert leaks(lab.shown.read_bytes()) == []


def test_a_token_of_a_device_is_looked_up_when_it_is_needed(tmp_path: Path) -> None:
    """A device whose variable cannot be had is told by its name; no other command minds."""
    lab = Lab(tmp_path)
    lab.write(kind="local")
    del lab.environ["A_TOKEN"]
    lab.run("device", "list")
    told = lab.run("device", "probe", "board", codes=(3,))
    assert "HF_TOKEN under agent.env: env:A_TOKEN holds no token" in told
