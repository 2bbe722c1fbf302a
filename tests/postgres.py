"""A real PostgreSQL on a free loopback port, for tests: a cluster of its own in a temporary folder, never the system's."""

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from sshd import free_port, unavailable

OWNER, PASSWORD = "fleetmark", "open sesame:\\"  # with what ~/.pgpass has to escape
ADMIN, ADMIN_PASSWORD = "postgres", "of the cluster"
PASSWORDS = {OWNER: PASSWORD, ADMIN: ADMIN_PASSWORD}
ACCOUNT = "postgres"  # what Debian's package makes; the server refuses to be root
SETTINGS = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": "40", "shared_buffers": "32MB"}


class Postgres:
    """A PostgreSQL server; every database of it belongs to OWNER, who logs in with PASSWORD. `settings` are the server's own, by name."""

    def __init__(self, **settings: str) -> None:
        self.settings = {**SETTINGS, **settings}
        self.folder = Path(mkdtemp(prefix="fleetmark-postgres-"))
        self.port = free_port()
        self.pgpass = self.folder / "pgpass"
        self._count = 0
        secret = self.folder / "secret"
        secret.write_text(ADMIN_PASSWORD)
        if os.geteuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            for path in (self.folder, secret):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = ("--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--username={ADMIN}")
        self._run("initdb", *options, f"--pgdata={self.folder / 'data'}")

    def start(self) -> "Postgres":
        """Start the server; returns when it listens."""
        settings = {**self.settings, "port": self.port, "unix_socket_directories": self.folder}
        options = [f"-c {name}={value}" for name, value in settings.items()]
        self._run(
            "pg_ctl", "--wait", f"--pgdata={self.folder / 'data'}", f"--log={self.folder / 'log'}", f"-o {' '.join(options)}", "start"
        )
        return self

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server, at once as if the power failed; `start` starts it again with what was committed."""
        self._run("pg_ctl", "--wait", f"--pgdata={self.folder / 'data'}", f"--mode={mode}", "stop")

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """Make a database of OWNER's; give its URL, without the password, which `pgpass` has."""
        if self._count == 0:
            quoted = PASSWORD.replace("'", "''")
            self.sql(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{quoted}'")
            self.pgpass.write_text(
                f"127.0.0.1:{self.port}:*:{OWNER}:{PASSWORD.replace(chr(92), 2 * chr(92)).replace(':', chr(92) + ':')}\n"
            )
            self.pgpass.chmod(0o600)
        self._count += 1
        self.sql(f"CREATE DATABASE results_{self._count} OWNER {OWNER}")
        return self.url(f"results_{self._count}")

    def url(self, database: str, user: str = OWNER) -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, text: str, database: str = "postgres", user: str = ADMIN) -> list[tuple[object, ...]]:
        """Run statements as the cluster's administrator, or as OWNER; give the rows of one that has any."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, password=PASSWORDS[user], dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(binaries() / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", ACCOUNT, "--", *command]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=self.folder)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {done.stdout}{done.stderr}")


def binaries() -> Path:
    """The folder of the newest server that is installed; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else Path(shutil.which("initdb") or "/nowhere/initdb").parent


def require_postgres() -> None:
    """Skip where there is no PostgreSQL server; fail there in CI, which installs one."""
    if not (binaries() / "initdb").exists():
        unavailable("no PostgreSQL server: install postgresql")


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    """A running server for all tests that leave it as it is."""
    require_postgres()
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def team_url(shared_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database; the password lies where PGPASSFILE says."""
    url = shared_postgres.database()
    monkeypatch.setenv("PGPASSFILE", str(shared_postgres.pgpass))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    return url
