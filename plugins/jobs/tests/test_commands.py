"""What an operator sees and does: every command on a real database."""

import json
import subprocess
import sys
import time
import uuid

import pytest


def out(shop, *arguments):
    return json.loads(shop.ok("jobs", *arguments, "--json"))


@pytest.fixture
def filled(shop):
    """Jobs in every state: two waiting, one scheduled, one retryable, three finished."""
    other = uuid.uuid4()
    ids = {
        "available": shop.enqueue(),
        "other": shop.enqueue("reindex_product", tenant_id=other),
        "scheduled": shop.enqueue(run_at="2126-01-01"),
        "retryable": shop.enqueue(run_at="2126-01-01", failures=1, attempt=1),
    }
    for state in ("completed", "discarded", "cancelled"):
        ids[state] = shop.enqueue()
        shop.sql.execute(
            "WITH gone AS (DELETE FROM forge.jobs WHERE id = %s RETURNING *)"
            " INSERT INTO forge.jobs_finished (id, run_at, enqueued_at, tenant_id, attempt, failures,"
            " kills, max_attempts, priority, state, kind, queue, args, metadata) SELECT id, run_at,"
            " enqueued_at, tenant_id, 3, 2, kills, 3, priority, %s, kind, queue, args, metadata FROM gone",
            (ids[state], state),
        )
    shop.sql.execute(
        "INSERT INTO forge.job_errors VALUES (%s, 3, now(), 'ValueError', 'boom', 'Traceback: here')",
        (ids["discarded"],),
    )
    shop.ids, shop.other = ids, other
    return shop


def listed(shop, *arguments):
    names = {job: name for name, job in shop.ids.items()}
    return [names[row["id"]] for row in out(shop, "list", *arguments)]


def test_list_filters(filled):
    everything = [
        "cancelled",
        "discarded",
        "completed",
        "retryable",
        "scheduled",
        "other",
        "available",
    ]

    assert listed(filled) == everything
    assert listed(filled, "--limit", "2") == everything[:2]
    assert listed(filled, "--queue", "default") == ["other"]
    assert listed(filled, "--kind", "reindex_product") == ["other"]
    assert listed(filled, "--state", "scheduled", "--state", "discarded") == [
        "discarded",
        "scheduled",
    ]
    assert listed(filled, "--tenant", str(filled.other)) == ["other"]
    assert listed(filled, "--older-than", "1h") == []
    assert listed(filled, str(filled.ids["other"])) == ["other"]
    table = filled.ok("jobs", "list", "--state", "scheduled")
    assert table.splitlines()[0].split() == [
        *(
            "id",
            "state",
            "kind",
            "queue",
            "tenant_id",
            "attempt",
            "failures",
            "run_at",
            "finished_at",
        )
    ]
    assert "no jobs" in filled.ok("jobs", "list", "--kind", "none")


def test_show_tells_everything_with_its_errors(filled):
    job = filled.ids["discarded"]

    assert out(filled, "show", str(job))["errors"][0]["message"] == "boom"
    text = filled.ok("jobs", "show", str(job))
    assert "Traceback: here" in text and "discarded" in text
    missing = filled.run("jobs", "show", "99999")
    assert missing.returncode == 1 and "there is no job 99999" in missing.stderr


def test_retry_brings_back_and_runs_now(filled):
    ids = filled.ids
    dry = out(filled, "retry", "--all", "--dry-run")
    assert dry["retried"] == sorted(
        ids[name] for name in ("scheduled", "retryable", "discarded", "cancelled")
    )
    assert filled.state(ids["discarded"])[0] == "discarded"

    assert out(filled, "retry", "--state", "discarded")["retried"] == [ids["discarded"]]
    assert filled.state(ids["discarded"]) == ("available", 3, 0, ["ValueError"])
    assert out(filled, "retry", str(ids["retryable"]))["retried"] == [ids["retryable"]]
    assert filled.state(ids["retryable"])[0] == "available"
    assert out(filled, "retry", "--state", "completed")["retried"] == [ids["completed"]]
    filled.work()
    filled.until(lambda: filled.state(ids["discarded"])[0] == "completed")
    assert filled.state(ids["discarded"])[1] == 4


def test_cancel_ends_what_waits(filled):
    ids = filled.ids
    dry = out(filled, "cancel", "--all", "--dry-run")
    assert dry["cancelled"] == sorted(
        ids[name] for name in ("available", "other", "scheduled", "retryable")
    )
    assert filled.state(ids["available"])[0] == "available"

    assert out(filled, "cancel", "--queue", "notifications")["cancelled"] == sorted(
        ids[name] for name in ("available", "scheduled", "retryable")
    )
    assert filled.state(ids["available"])[0] == "cancelled"
    assert filled.state(ids["other"])[0] == "available"


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_nothing_is_meant_without_a_filter(filled, command):
    done = filled.run("jobs", command)

    assert done.returncode == 2
    assert "say which jobs: ids, a filter, or --all" in done.stderr


def test_enqueue_by_hand(shop):
    args = json.dumps({"resource_id": str(uuid.uuid4()), "tenant_id": str(shop.tenant)})
    job = out(
        shop, "enqueue", "notify_new_product", "--args", args, "--queue", "notifications",
        "--tenant", str(shop.tenant), "--priority", "1",
    )["id"]  # fmt: skip
    later = int(shop.ok("jobs", "enqueue", "x", "--run-at", "2126-01-31T08:00:00+00:00"))

    shop.work()
    shop.until(lambda: shop.state(job)[0] == "completed")

    assert shop.state(later)[0] == "scheduled"
    for wrong in ("[1]", "{", "3"):
        done = shop.run("jobs", "enqueue", "x", "--args", wrong)
        assert done.returncode == 2 and "--args" in done.stderr


def test_stats_shows_limits_workers_and_who_holds_the_oldest_snapshot(filled):
    import psycopg

    filled.ok("jobs", "pause", "--queue", "notifications")
    filled.work()
    filled.until(lambda: out(filled, "stats")["workers"])
    with psycopg.connect(filled.url, application_name="nightly report") as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM forge.jobs")
        found = out(filled, "stats")
        text = filled.ok("jobs", "stats")

    queues = {row["queue"]: row for row in found["queues"]}
    assert queues["default"]["limit"] == 100
    assert queues["notifications"]["limit"] == 2
    assert queues["notifications"]["paused"] is True
    assert queues["notifications"]["available"] == 1
    assert queues["notifications"]["oldest_wait_s"] > 0
    assert found["oldest_snapshot"]["application_name"] == "nightly report"
    assert "nightly report" in text and "time limits: none" in text
    assert {"live", "dead", "partitions", "bytes"} <= found["table"].keys()


def test_stats_shows_the_limits_of_time_in_force(shop):
    shop.jobs(
        "@worker(NotifyNewProductArgs, timeout=timedelta(seconds=30))\n"
        "def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:\n    pass\n"
    )
    shop.work()

    shop.until(lambda: out(shop, "stats")["timeouts"] == {"notify_new_product": 30.0})
    assert "time limits: notify_new_product 30 s" in shop.ok("jobs", "stats")


def findings(shop, status):
    done = shop.run("jobs", "doctor", "--json")
    assert done.returncode == status, done.stdout + done.stderr
    return {row["text"] for row in json.loads(done.stdout) if not row["ok"]}


def test_doctor_finds_nothing_on_a_sound_database(shop):
    assert findings(shop, 0) == set()
    assert "ok    tables" in shop.ok("jobs", "doctor")


def test_commands_find_the_project_wherever_python_looks(shop, tmp_path):
    args = json.dumps({"resource_id": str(uuid.uuid4()), "tenant_id": str(shop.tenant)})
    environ = {key: text for key, text in shop.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "forgecore", "jobs", "enqueue", "reindex_product", "--args", args],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_doctor_names_what_is_wrong(shop):
    shop.enqueue("nobodys")
    shop.enqueue(queue="nowhere")
    shop.sql.execute("DROP INDEX forge.jobs_due_idx")
    shop.sql.execute("ALTER TABLE forge.job_errors DROP COLUMN traceback CASCADE")
    shop.sql.execute("ALTER TABLE forge.jobs SET (fillfactor = 100)")
    shop.sql.execute("DROP TRIGGER jobs_wake ON forge.jobs")
    shop.sql.execute(
        "DO $$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits"
        " WHERE inhrelid::regclass::text ~ 'discarded_[0-9]{8}$' LOOP"
        " EXECUTE format('DROP TABLE %s', part); END LOOP; END $$"
    )
    shop.sql.execute(
        "INSERT INTO forge.job_workers (host, pid, beat_at, lost_slots)"
        " VALUES ('far', 7, now() - interval '1 hour', 2)"
    )

    found = findings(shop, 1)

    for text in (
        "index jobs_due_idx is missing",
        "job_errors.traceback is missing",
        "options of jobs is not as it must be",
        "trigger jobs_wake is missing",
        "1 job of kind `nobodys` wait, and nobody has a worker for it",
        "1 job wait in queue `nowhere`, which nobody serves",
        "far pid 7 has not beaten for",
        "far pid 7 has lost 2 slots",
    ):
        assert any(one.startswith(text) for one in found), (text, found)
    assert sum("no partition for jobs discarded" in one for one in found) == 2


def test_an_unmigrated_database_is_said(shop):
    shop.sql.execute("DROP SCHEMA forge CASCADE")

    for command in (["list"], ["stats"], ["show", "1"], ["pause", "--queue", "x"]):
        done = shop.run("jobs", *command)
        assert done.returncode == 3
        assert "forgecore migrate up" in done.stderr
        assert "Traceback" not in done.stderr


def test_several_processes_share_the_work_and_end_together(shop):
    import psutil

    shop.jobs(
        "@worker(NotifyNewProductArgs)\n"
        "def notify_new_product(args: NotifyNewProductArgs, job: Job) -> None:\n"
        "    time.sleep(1)\n    job.log.info('ran', pid=os.getpid())\n"
    )
    for _ in range(6):
        shop.enqueue()
    parent = shop.worker("--processes", "2")
    shop.workers.append(parent)
    count = "SELECT count(*) FROM forge.job_workers"
    shop.until(lambda: shop.sql.execute(count).fetchone() == (2,))
    shop.drained()
    pids = {json.loads(line)["pid"] for line in shop.log().splitlines() if '"ran"' in line}
    assert len(pids) == 2

    # One that dies is started anew.
    children = psutil.Process(parent.pid).children()
    children[0].kill()
    shop.until(lambda: "process.died" in shop.log())
    shop.until(lambda: len(psutil.Process(parent.pid).children()) == 2)
    alive = psutil.Process(parent.pid).children()
    parent.terminate()
    assert parent.wait(15) == 0
    assert not any(child.is_running() for child in alive)


def test_no_worker_outlives_its_parent(shop):
    import psutil

    parent = shop.worker("--processes", "2")
    shop.workers.append(parent)
    shop.until(lambda: shop.log().count('"worker.started"') == 2)
    children = psutil.Process(parent.pid).children()

    parent.kill()
    parent.wait()

    deadline = time.monotonic() + 10
    while any(child.is_running() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_enqueue_by_hand_knows_the_hook_and_refuses_what_cannot_run(shop):
    args = json.dumps({"resource_id": str(uuid.uuid4()), "tenant_id": str(shop.tenant)})

    job = int(shop.ok("jobs", "enqueue", "reindex_product", "--args", args))

    row = shop.sql.execute(
        "SELECT queue, max_attempts, backoff, tenant_id FROM forge.jobs WHERE id = %s", (job,)
    ).fetchone()
    assert row == ("default", 2, "constant:1s", shop.tenant)
    for wrong, said in (
        (["", "--args", "{}"], "the kind is empty"),
        (["x", "--queue", "defualt"], "did you mean `default`?"),
        (["reindex_product"], "the arguments do not fit ReindexProductArgs"),
        (["reindex_product", "--args", args, "--tenant", str(uuid.uuid4())], "different tenants"),
    ):
        done = shop.run("jobs", "enqueue", *wrong)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_what_is_not_there_is_said(filled):
    missing = filled.run("jobs", "retry", "99999", str(filled.ids["discarded"]))
    assert missing.returncode == 1 and "not 99999: neither" in missing.stderr
    assert filled.state(filled.ids["discarded"])[0] == "available"
    assert filled.run("jobs", "cancel", str(filled.ids["completed"])).returncode == 1
    for typo in (["--queue", "notification"], ["--kind", "notify_new_produkt"]):
        done = filled.run("jobs", "pause", *typo)
        assert done.returncode == 1 and "did you mean `notif" in done.stderr
