"""Which database is meant, who may use it, and what somebody learns who cannot; no password is ever repeated."""

import json
import sys
from contextlib import closing
from pathlib import Path

import pytest
import stored_runs
from begun_stores import DOCUMENT, begun
from factory_runs import mixed_run
from postgres import OWNER, PASSWORD, Postgres
from typer.testing import CliRunner

from controller.cli.__main__ import app
from controller.errors import FleetmarkError, render
from controller.store import Store


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql+psycopg://ann:hunter2@host/db", "holds a password"),
        ("postgresql+psycopg://ann:hun@ter2@host/db", "holds a password"),
        ("postgresql+psycopg://host/db?password=hunter2", "holds a password"),
        ("postgresql+psycopg://host/db?sslmode=require&sslPassword=hunter2", "holds a password"),
        ("mysql://ann:hunter2@host/db", "holds a password"),
        ("postgresql+psycopg://ann:12/hunter2@host/db", "holds a password"),
        ("postgresql+psycopg://hunter2@ter@host/db", "cannot be read"),
        ("postgresql+psycopg://host:12/hunter2@host/db", "holds a password"),
        ("postgresql+psycopg://host", "cannot be read"),
        ("mysql://host/db", "not kept in mysql"),
        ("postgresql://host/db", "not kept in postgresql"),
        ("sqlite://", "cannot be read"),
        ("sqlite:///:memory:", "cannot be read"),
        ("hunter2@host/db", "not named by a URL"),
        ("", "not named by a URL"),
    ],
)
def test_urls_that_are_refused_are_never_repeated(given: str, said: str, tmp_path: Path) -> None:
    """Whatever looks like a password keeps the URL from being used, and is in no part of the message."""
    with pytest.raises(FleetmarkError, match=said) as raised:
        Store(tmp_path, given)
    assert "hunter2" not in render(raised.value)
    assert "ter2" not in render(raised.value)
    assert raised.value.next


def test_who_cannot_connect_learns_why(shared_postgres: Postgres, team_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there, no database, no password, a wrong one: each says what to do, without the password or the user."""
    database = team_url.rpartition("/")[2]
    cases = [
        (f"postgresql+psycopg://{OWNER}@127.0.0.1:1/db", None, "psql --host=127.0.0.1 --port=1"),
        (shared_postgres.url("none"), None, "the database and the user exist"),
        (shared_postgres.url(database, "other"), None, "put the password into ~/.pgpass"),
        (team_url, "wrong password", "see that the password in PGPASSWORD"),
    ]
    for given, password, following in cases:
        if password:
            monkeypatch.setenv("PGPASSWORD", password)
        with pytest.raises(FleetmarkError, match="cannot connect to postgresql") as raised:
            Store(tmp_path, given)
        assert following in raised.value.next
        assert PASSWORD not in (text := render(raised.value))
        assert "wrong password" not in text
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    Store(tmp_path, team_url).close()


def test_a_missing_driver_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the error names the extra that has it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FleetmarkError, match="psycopg cannot be imported") as raised:
        Store(tmp_path, "postgresql+psycopg://host/db")
    assert raised.value.next == "pip install 'fleetmark[postgres]'"


def test_a_reader_may_read_and_no_more(shared_postgres: Postgres, team_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that may only SELECT shows runs and reports; what it may not write is told, and so is an empty database."""
    database = team_url.rpartition("/")[2]
    with pytest.raises(FleetmarkError, match=r"there are no results in postgresql\+psycopg://127"):
        Store.open(tmp_path, team_url)
    begun(tmp_path, team_url).close()
    shared_postgres.sql("DROP ROLE IF EXISTS reader")
    shared_postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'reads'")
    shared_postgres.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database)
    monkeypatch.setenv("PGPASSWORD", "reads")
    with closing(Store.open(tmp_path, shared_postgres.url(database, "reader"))) as store:
        assert len(store.load_run("run").cells) == 1
        assert store.check() == []
        with pytest.raises(FleetmarkError, match="may not be written by you"):
            store.create_run("mine", "2026", DOCUMENT)
    shared_postgres.sql("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reader", database)


def test_a_command_takes_the_store_from_its_option_or_the_environment(team_url: str, tmp_path: Path) -> None:
    """What one laptop wrote another lists, without any file of its own."""
    stored_runs.keep(mixed_run(), tmp_path / "unused", url=team_url)
    for words, environ in ((["--store", team_url], {}), ([], {"FLEETMARK_STORE": team_url})):
        done = CliRunner().invoke(app, ["runs", "list", "--json", "--results", str(tmp_path / "unused"), *words], env=environ)
        assert [run["id"] for run in json.loads(done.stdout)["runs"]] == [mixed_run().id]
    assert not (tmp_path / "unused").exists()
