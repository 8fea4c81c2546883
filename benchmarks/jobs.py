"""Jobs against the peers: one Postgres, one run, interleaved; a table, ratios and a plot.

    make bench-jobs
    python benchmarks/jobs.py --rounds 5 --jobs 20000 --only forgecore,pgqueuer

Figures of different machines do not compare: only the ratios within a run do. What is not
installed (oban needs Python 3.12, Redis and RabbitMQ a server) is left out, and said.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from forgecore.database.embedded import Embedded

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-bench"
OWN = ("forgecore", "forgecore-async", "forgecore-tx")
FEATURES = ("forgecore-unique", "forgecore-limit", "forgecore-tenants", "forgecore-sequence")
OTHERS = (
    *("pgqueuer", "pgqueuer-default", "oban", "procrastinate", "chancy", "awa"),
    *("dramatiq-postgres", "iddqueue"),
    *("dramatiq-memory", "dramatiq-redis", "dramatiq-rabbitmq"),
)
SLOTS = {
    "forgecore": 200,
    "forgecore-async": 200,
    "forgecore-tx": 8,
    **dict.fromkeys(FEATURES, 200),
    "pgqueuer": 100,
    "oban": 100,
    "awa": 200,
}
SLOW = {
    "procrastinate": 4000,
    "chancy": 4000,
    "pgqueuer-default": 4000,
    "forgecore-tx": 6000,
    "dramatiq-postgres": 4000,
    "iddqueue": 1000,
    "dramatiq-rabbitmq": 4000,
}
SCHEMA = """
[resource]
name = "Product"
tenant_scoped = true

[[hooks.after_create]]
kind = "sync_noop"

[[hooks.after_update]]
kind = "async_noop"

[[hooks.after_delete]]
kind = "tx_noop"
"""
WORKERS = """
import bench_hook
from forgecore_jobs import AsyncJob, Job, worker
from shop.gen.actions.product import AsyncNoopArgs, SyncNoopArgs, TxNoopArgs


@worker(SyncNoopArgs)
def sync_noop(args: SyncNoopArgs, job: Job) -> None:
    bench_hook.run(job.metadata.get("n"))


@worker(AsyncNoopArgs)
async def async_noop(args: AsyncNoopArgs, job: AsyncJob) -> None:
    bench_hook.run(job.metadata.get("n"))


@worker(TxNoopArgs)
def tx_noop(args: TxNoopArgs, job: Job) -> None:
    job.tx.execute("SELECT 1")
    bench_hook.run(job.metadata.get("n"))
"""
ASLEEP = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
BESIDE = {
    "nothing": "",
    "a held snapshot": "",
    "200,000 future jobs": """
        INSERT INTO forge.jobs (kind, args, run_at)
        SELECT 'k', '{}', now() + interval '1 day' FROM generate_series(1, 200000)""",
    "10 million finished jobs": """
        INSERT INTO forge.jobs_finished (
            id, run_at, enqueued_at, attempt, failures, kills, priority, state, kind, queue, args, metadata
        )
        SELECT n, now(), now(), 1, 0, 0, 5, 'completed', 'k', 'default', '{}', '{}'
        FROM generate_series(1, 10000000) AS n""",
}
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--only", default=",".join((*OWN, *FEATURES, *OTHERS)))
    parser.add_argument("--parts", default="drain,latency,bulk,writers,claims")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), options)
        try:
            bench.set_up()
            found = bench.run()
        finally:
            bench.end()
    text = report(found, options)
    print(text)
    (HERE / "jobs.md").write_text(text, encoding="utf-8")
    (HERE / "jobs.svg").write_text(plot(found), encoding="utf-8")


class Bench:
    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.server = Embedded(folder=folder / ".forge", settings=SETTINGS)
        self.project = folder / "shop"
        self.brokers: list[subprocess.Popen[bytes]] = []
        self.env = dict(os.environ)
        self.pythons: dict[str, str] = {}

    def set_up(self) -> None:
        self.server.start()
        self.env["BENCH_PG"] = self.server.url("postgres").replace("/forge?", "/{db}?")
        self.env["BENCH_PROJECT"] = str(self.project)
        (self.project / "schema").mkdir(parents=True)
        (self.project / "forge.toml").write_text('[project]\nname = "shop"\nplugins = ["jobs"]\n')
        (self.project / "schema" / "product.toml").write_text(SCHEMA)
        (self.project / "bench_hook.py").write_text("run = None\n")
        workers = self.project / "shop" / "resources" / "product" / "jobs.py"
        workers.parent.mkdir(parents=True)
        workers.write_text(WORKERS)
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE bench_template")
        env = {**self.env, "FORGE_DATABASE_URL": self.url("bench_template")}
        for command in (["build"], ["migrate", "up"], ["migrate", "diff"], ["migrate", "up"]):
            subprocess.run(
                [sys.executable, "-m", "forgecore", *command],
                cwd=self.project, env=env, check=True, capture_output=True,
            )  # fmt: skip
        self.pythons = dict.fromkeys((*OWN, *FEATURES), sys.executable)
        wanted = [name for name in OTHERS if name in self.options.only.split(",")]
        if wanted:
            self._install(wanted)

    def _install(self, wanted: Sequence[str]) -> None:
        plain = environment(
            PEERS / "peers", sys.executable, ["-r", str(HERE / "requirements-jobs.txt")]
        )
        newer = shutil.which("python3.12") or shutil.which("python3.13")
        for name in wanted:
            self.pythons[name] = plain
        if "oban" in wanted:
            self.pythons.pop("oban")
            if newer:
                packages = ["oban", "uvloop", "psycopg[binary,pool]"]
                self.pythons["oban"] = environment(PEERS / "oban", newer, packages)
            else:
                print("left out: oban (no Python 3.12)")
        for name, start in (("dramatiq-redis", self._redis), ("dramatiq-rabbitmq", self._rabbitmq)):
            if name in wanted and not start():
                self.pythons.pop(name)
                print(f"left out: {name} (no server installed)")

    def _redis(self) -> bool:
        if (program := shutil.which("redis-server")) is None:
            return False
        port = free_port()
        self.brokers.append(
            subprocess.Popen(
                [program, "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
                stdout=subprocess.DEVNULL,
            )
        )
        self.env["BENCH_REDIS"] = f"redis://127.0.0.1:{port}/0"
        return True

    def _rabbitmq(self) -> bool:
        # Not Debian's wrapper, which becomes another user and forgets where to listen.
        program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        if not program.exists():
            return False
        port, home = free_port(), self.folder / "rabbit"
        home.mkdir()
        env = {
            **os.environ,
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        }
        child = subprocess.Popen(
            [str(program)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.brokers.append(child)
        self.env["BENCH_AMQP"] = f"amqp://guest:guest@127.0.0.1:{port}"
        end = time.monotonic() + 40
        while time.monotonic() < end and child.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                time.sleep(2)
                return True
            time.sleep(0.5)
        return False

    def end(self) -> None:
        for broker in self.brokers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(broker.pid) == broker.pid:
                    os.killpg(broker.pid, signal.SIGTERM)
                else:
                    broker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                broker.wait(20)
        self.server.stop()

    def url(self, database: str) -> str:
        return self.env["BENCH_PG"].replace("{db}", database)

    def run(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        names = [name for name in self.options.only.split(",") if name in self.pythons]
        parts = self.options.parts.split(",")
        for number in range(self.options.rounds):
            for part in parts:
                for name, told in self._part(part, names):
                    print(f"round {number + 1} {part:<9} {name:<20} {json.dumps(told)}", flush=True)
                    found[part, name].append(told)
        return found

    def _part(self, part: str, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        if part == "writers":
            yield from self._writers()
            return
        if part == "claims":
            yield from self._claims_beside()
            return
        for name in names:
            count = min(self.options.jobs, SLOW.get(name, self.options.jobs))
            arguments = {
                "drain": (count, SLOTS.get(name, 50)),
                "latency": (250, 50),
                "bulk": (min(10_000, count), 0),
            }[part]
            if part == "latency" and name == "dramatiq-memory":
                continue
            if part != "drain" and name in FEATURES:
                continue
            if part == "bulk" and name in {
                *("forgecore-async", "forgecore-tx", "dramatiq-memory", "pgqueuer-default"),
            }:
                continue
            if (told := self._measure(part, name, arguments)) is not None:
                yield name, told

    def _measure(self, part: str, name: str, arguments: tuple[int, int]) -> dict[str, Any] | None:
        command = [
            self.pythons[name],
            str(HERE / "jobs_peers.py"),
            part,
            name,
            *map(str, arguments),
        ]
        child = subprocess.Popen(
            command, env=self.env, cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            output, errors = child.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            output, errors = child.communicate()
        lines = [line for line in output.splitlines() if line.startswith("{")]
        if not lines:
            print(f"no figure: {part} {name}: {errors.strip()[-300:]}")
            return None
        told: dict[str, Any] = json.loads(lines[-1])
        return told

    def _writers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Sixteen connections that enqueue one job each per transaction, by pgbench."""
        script = self.folder / "insert.sql"
        script.write_text(
            "INSERT INTO forge.jobs (kind, args) VALUES ('nobody', '{\"resource_id\": 1}');\n"
        )
        for name, wake, sleeper in (
            ("no wake-up", False, False),
            ("worker awake", True, False),
            ("worker asleep", True, True),
        ):
            url = self._own_database()
            if not wake:
                with psycopg.connect(url, autocommit=True) as conn:
                    conn.execute("ALTER TABLE forge.jobs DISABLE TRIGGER jobs_wake")
            with self._worker(url) if sleeper else contextlib.nullcontext():
                yield name, {"commits_s": self._pgbench(url, script)}

    @contextlib.contextmanager
    def _worker(self, url: str) -> Iterator[None]:
        """`jobs work`, which has no worker for these jobs and so goes to sleep."""
        child = subprocess.Popen(
            [sys.executable, "-m", "forgecore", "jobs", "work"],
            cwd=self.project, env={**self.env, "FORGE_DATABASE_URL": url},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with psycopg.connect(url, autocommit=True) as conn:
                while not conn.execute(ASLEEP).fetchone()[0]:  # type: ignore[index]
                    time.sleep(0.1)
            yield
        finally:
            child.terminate()
            child.wait(30)

    def _pgbench(self, url: str, script: Path) -> int:
        done = subprocess.run(
            [self.server.tool("pgbench"), "-n", "-M", "prepared", "-c", "16", "-j", "2", "-T", "5",
             "-f", str(script), url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        (line,) = [one for one in done.stdout.splitlines() if one.startswith("tps")]
        return round(float(line.split()[2]))

    def _claims_beside(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Claims of 100, the first 40 and the last 40 of 60,000 jobs, beside what slows peers."""
        for name, before in BESIDE.items():
            url = self._own_database()
            with psycopg.connect(url, autocommit=True) as conn:
                if before:
                    conn.execute(before.encode())
                conn.execute(
                    "INSERT INTO forge.jobs (kind, args) SELECT 'k', '{}' FROM generate_series(1, 60000)"
                )
                conn.execute("VACUUM ANALYZE forge.jobs")
            with psycopg.connect(url) as holder:
                if name == "a held snapshot":
                    holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    holder.execute("SELECT count(*) FROM forge.jobs")
                yield name, self._claim_all(url)

    def _claim_all(self, url: str) -> dict[str, Any]:
        from forgecore_jobs.engine.floors import Claimer
        from forgecore_jobs.engine.store import Entry, Settled, Store
        from forgecore_jobs.job import Finished

        store = Store(url, name="bench", prepare=True)
        worker = store.register(Entry(limits={}, kinds=["k"], timeouts={}))
        claimer, spent = Claimer(["k"], 25), []
        while True:
            start = time.perf_counter()
            claims = claimer.claim(store, worker, {"default": 100})
            spent.append((time.perf_counter() - start) * 1e3)
            if not claims:
                break
            store.settle([Settled(claim=c, outcome=Finished(state="completed")) for c in claims])
        store.close()
        return {
            "first_ms": round(statistics.median(spent[1:41]), 2),
            "last_ms": round(statistics.median(spent[-41:-1]), 2),
        }

    def _own_database(self) -> str:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute("DROP DATABASE IF EXISTS bench_own WITH (FORCE)")
            conn.execute("CREATE DATABASE bench_own TEMPLATE bench_template")
        return self.url("bench_own")


def environment(folder: Path, python: str, packages: Sequence[str]) -> str:
    """Return the Python of a virtual environment with these packages, made once."""
    made = folder / "bin" / "python"
    if not (folder / ".done").exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(made), "-m", "pip", "install", "-q", *packages], check=True)
        (folder / ".done").touch()
    return str(made)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def middle(rows: Sequence[dict[str, Any]], key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def spread(rows: Sequence[dict[str, Any]], key: str) -> str:
    values = sorted(row[key] for row in rows)
    return f"{values[0]:,}..{values[-1]:,}"


def report(found: dict[tuple[str, str], list[dict[str, Any]]], options: argparse.Namespace) -> str:
    lines = [
        "# Jobs, side by side",
        "",
        f"Medians of {options.rounds} interleaved rounds on one Postgres 18, durable commits; only ratios compare.",
        "",
    ]
    drains = {name: rows for (part, name), rows in found.items() if part == "drain"}
    if drains:
        lines += ["## Drain of no-op jobs, one worker process", "",
                  "| | jobs/s | spread | client us | server us | WAL B |", "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        lines += [
            f"| {name} | {middle(rows, 'jobs_s'):,.0f} | {spread(rows, 'jobs_s')} | {middle(rows, 'client_us'):.0f}"
            f" | {middle(rows, 'server_us'):.0f} | {middle(rows, 'wal_b'):.0f} |"
            for name, rows in sorted(drains.items(), key=lambda item: -middle(item[1], "jobs_s"))
        ]
    for part, title, keys in (
        ("latency", "From commit to start, 50 jobs a second", ("p50_ms", "p99_ms")),
        ("bulk", "10,000 jobs in one call", ("jobs_s", "wal_b")),
        ("writers", "Sixteen writers, commits a second", ("commits_s",)),
        ("claims", "Claims of 100 while 60,000 jobs drain, beside", ("first_ms", "last_ms")),
    ):
        rows = {name: told for (one, name), told in found.items() if one == part}
        if rows:
            lines += [
                "",
                f"## {title}",
                "",
                f"| | {' | '.join(keys)} |",
                "| --- |" + " --- |" * len(keys),
            ]
            lines += [
                f"| {name} | {' | '.join(f'{middle(told, key):,g}' for key in keys)} |"
                for name, told in rows.items()
            ]
    lines += ["", "## Ratios", "", *ratios(found), ""]
    return "\n".join(lines)


def ratios(found: dict[tuple[str, str], list[dict[str, Any]]]) -> Iterator[str]:
    def of(part: str, name: str, key: str) -> float | None:
        rows = found.get((part, name))
        return middle(rows, key) if rows else None

    wanted = (
        ("drain, sync / pgqueuer (goal 2.5)", ("drain", "forgecore", "jobs_s"), ("drain", "pgqueuer", "jobs_s")),
        ("drain, async / pgqueuer (goal 3)", ("drain", "forgecore-async", "jobs_s"), ("drain", "pgqueuer", "jobs_s")),
        ("drain, sync / oban (goal 10)", ("drain", "forgecore", "jobs_s"), ("drain", "oban", "jobs_s")),
        ("latency p50 / oban (goal at most 0.7)", ("latency", "forgecore", "p50_ms"), ("latency", "oban", "p50_ms")),
        ("latency p99 / oban (goal at most 1)", ("latency", "forgecore", "p99_ms"), ("latency", "oban", "p99_ms")),
        ("bulk / pgqueuer (goal 3)", ("bulk", "forgecore", "jobs_s"), ("bulk", "pgqueuer", "jobs_s")),
        ("16 writers, worker awake / no wake-up (goal 0.85)", ("writers", "worker awake", "commits_s"), ("writers", "no wake-up", "commits_s")),
        ("16 writers, worker asleep / no wake-up (goal 0.85)", ("writers", "worker asleep", "commits_s"), ("writers", "no wake-up", "commits_s")),
        ("held snapshot, last claim / first (goal at most 1.2)", ("claims", "a held snapshot", "last_ms"), ("claims", "a held snapshot", "first_ms")),
        ("claim beside 10 million finished jobs / beside nothing", ("claims", "10 million finished jobs", "first_ms"), ("claims", "nothing", "first_ms")),
        ("claim beside 200,000 future jobs / beside nothing", ("claims", "200,000 future jobs", "first_ms"), ("claims", "nothing", "first_ms")),
    )  # fmt: skip
    for title, above, below in wanted:
        up, down = of(*above), of(*below)
        if up is not None and down:
            yield f"- {title}: {up / down:.2f}"
    for name in ("forgecore", "forgecore-async"):
        own = [of("drain", name, key) for key in ("client_us", "server_us")]
        peer = [of("drain", "pgqueuer", key) for key in ("client_us", "server_us")]
        if None not in own and None not in peer:
            share = sum(x or 0 for x in own) / sum(x or 0 for x in peer)
            yield f"- CPU of client and server per job, {name} / pgqueuer (goal at most 0.6): {share:.2f}"
    for name in FEATURES:
        up, down = of("drain", name, "jobs_s"), of("drain", "forgecore", "jobs_s")
        if up is not None and down:
            yield f"- drain, {name} / forgecore: {up / down:.2f}"
    drained, written = of("drain", "forgecore", "wal_b"), of("bulk", "forgecore", "wal_b")
    if drained and written:
        yield f"- WAL of a job's life, bytes (goal at most 900): {drained + written:.0f}"


def plot(found: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    rows = sorted(
        ((middle(told, "jobs_s"), name) for (part, name), told in found.items() if part == "drain"),
        reverse=True,
    )
    most = max((value for value, _ in rows), default=1.0)
    height = 24 * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<text x="8" y="20">No-op jobs per second, one worker process</text>',
    ]
    for index, (value, name) in enumerate(rows):
        top = 34 + 24 * index
        width = max(1, round(value / most * 440))
        fill = "#3b6ea5" if name.startswith("forgecore") else "#b0b7bf"
        parts += [
            f'<text x="150" y="{top + 13}" text-anchor="end">{name}</text>',
            f'<rect x="158" y="{top}" width="{width}" height="17" fill="{fill}"/>',
            f'<text x="{166 + width}" y="{top + 13}">{value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
