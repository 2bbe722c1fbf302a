"""What is wrong with a store is found, and told by `fleetmark doctor`."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from begun_stores import begun, finish
from typer.testing import CliRunner

from controller.cli import doctor as doctor_command
from controller.cli.__main__ import app
from controller.store import Store


def damaged(store: Store, statement: str) -> list[str]:
    """What the check finds after somebody's statement, which the database's own rules would not let through."""
    with store._database._engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql(statement)
    return store.check()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM cells", "which is not there"),
        ("DELETE FROM launches WHERE id = 'one'", "samples rate are of launch one"),
        ("UPDATE launches SET status = 'started'", "never finished"),
        ("UPDATE samples SET \"values\" = x'00'", "samples rate cannot be read: error"),
        ("UPDATE samples SET shape = '[4]'", "24 bytes for shape [4]"),
        ("UPDATE launches SET status = 'valid'", "was measured 2 times in round 0"),
        ("UPDATE launches SET document = '{}'", "launch one cannot be read: KeyError"),
        ("UPDATE cells SET document = json_set(document, '$.later', 1)", "cannot be read: SchemaError"),
        ("DELETE FROM runs", "has no runs"),
    ],
)
def test_the_check_finds_what_is_wrong(statement: str, said: str, tmp_path: Path) -> None:
    """A sound store has nothing; after each kind of damage the check names it."""
    with closing(begun(tmp_path, None, "one", "two")) as store:
        finish(store, "one")
        finish(store, "two", status="failed")
        assert store.check() == []
        assert any(said in line for line in damaged(store, statement)), store.check()


def test_doctor_looks_into_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells that a store is whole, what is wrong with one (exit code 1), and that one cannot be opened; without any it says nothing."""
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(json.dumps({"version": 1, "devices": {"board": {"kind": "local"}}}))
    monkeypatch.setattr(doctor_command, "_examine", lambda _: [])

    def doctor() -> tuple[int, list[dict[str, Any]]]:
        done = CliRunner().invoke(app, ["doctor", "--json"])
        return done.exit_code, json.loads(done.stdout)["doctor"].get("the store", [])

    assert doctor() == (0, [])
    with closing(begun(tmp_path / "results", None, "one")) as store:
        finish(store, "one")
        (code, (check,)) = doctor()
        assert (code, check["ok"]) == (0, True)
        damaged(store, "DELETE FROM cells")
        (code, (check,)) = doctor()
        assert (code, check["ok"], "which is not there" in check["message"]) == (1, False, True)
    Path("results/fleetmark.db").write_bytes(b"no database at all, but long enough to be taken for one")
    (code, (check,)) = doctor()
    assert (code, "not a database" in check["message"], check["mend"] != "") == (1, True, True)


def test_the_check_finds_a_damaged_file(tmp_path: Path) -> None:
    """A page that was overwritten is found by SQLite's own check, or the file is refused."""
    with closing(begun(tmp_path, None, "one")) as store:
        finish(store, "one")
        with store._database._engine.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        path = tmp_path / "fleetmark.db"
        content = path.read_bytes()
        path.write_bytes(content[: 2 * 4096] + bytes(4096) + content[3 * 4096 :])
        assert any("damaged" in line or "cannot be read" in line for line in store.check())
