"""Jobs that come with the clock: one for each tick, whoever looks and whatever the clocks do."""

import json
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from forgecore_jobs.engine.store import Store
from forgecore_jobs.engine.ticks import Ticks
from forgecore_jobs.periodic import Periodic
from forgecore_jobs.wiring import Wiring


def entry(**given: Any) -> Periodic:
    return Periodic(**{"name": "tick", "kind": "reindex_product", "cron": "* * * * *", **given})


class Process:
    """A process that looks for ticks."""

    def __init__(self, shop, *entries: Periodic) -> None:
        self.store = Store(shop.url, name="test")
        self.ticks = Ticks(self.store, entries, Wiring(), {})

    def look(self) -> None:
        self.ticks.look()


def move(shop, name: str = "tick", **ago: float) -> datetime:
    """Let an entry's next tick have been so long ago; return it, at a whole minute."""
    at = (datetime.now(UTC) - timedelta(**ago)).replace(second=0, microsecond=0)
    shop.sql.execute("UPDATE forge.job_periodic SET next_at = %s WHERE name = %s", (at, name))
    return at


def ticks(shop) -> list[str]:
    rows = shop.sql.execute("SELECT metadata ->> 'tick' FROM forge.jobs_all ORDER BY run_at, id")
    return [row[0] for row in rows]


def entered(shop, *entries: Periodic) -> Process:
    made = Process(shop, *entries)
    made.look()
    return made


@pytest.mark.parametrize(
    ("catch_up", "expected"), [("none", [0]), ("last", [0]), ("all", [4, 3, 2, 1, 0])]
)
def test_ticks_that_nobody_was_there_for(shop, catch_up, expected):
    # The minute that runs out comes an hour later: none ends while this runs.
    soon = (datetime.now(UTC) + timedelta(minutes=30)).minute
    minutes = ",".join(str(one) for one in range(60) if one not in {soon, (soon + 1) % 60})
    process = entered(shop, entry(catch_up=catch_up, cron=f"{minutes} * * * *"))
    assert ticks(shop) == []
    first = move(shop, minutes=4)
    process.look()
    before = len(ticks(shop))
    process.look()

    wanted = [(first + timedelta(minutes=4 - ago)).isoformat() for ago in expected]
    found = ticks(shop)[:before]
    # A minute may have ended between the two.
    later = [(first + timedelta(minutes=5 - ago)).isoformat() for ago in expected]
    assert found in (wanted, later, [*wanted, later[-1]])


def test_a_tick_that_is_long_over_gets_no_job_without_catch_up(shop):
    process = entered(shop, entry(catch_up="none", cron="0 0 1 1 *"))
    shop.sql.execute("UPDATE forge.job_periodic SET next_at = now() - interval '2 hours'")
    process.look()

    assert ticks(shop) == []
    assert shop.sql.execute("SELECT next_at > now() FROM forge.job_periodic").fetchone() == (True,)


def test_thousands_of_missed_ticks_are_all_caught_up(shop):
    process = entered(shop, entry(catch_up="all"))
    move(shop, minutes=2500)
    process.look()

    found = ticks(shop)
    assert 2501 <= len(found) == len(set(found)) <= 2502


def test_many_processes_write_one_job_for_each_tick(shop):
    processes = [Process(shop, entry(catch_up="all")) for _ in range(4)]
    for process in processes:
        process.look()
    move(shop, minutes=300)
    threads = [threading.Thread(target=process.look) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = ticks(shop)
    assert 301 <= len(found) == len(set(found)) <= 302


def test_a_tick_is_not_written_again_when_the_clock_goes_back(shop):
    process = entered(shop, entry(catch_up="all"))
    # As if the clock had been an hour ahead: the ticks until then have their jobs.
    shop.sql.execute(
        "UPDATE forge.job_periodic SET next_at = now() + interval '61 minutes',"
        " last_at = now() + interval '1 hour', paused_at = now()"
    )
    process.look()
    entered(shop, entry(catch_up="all", cron="*/2 * * * *"))
    (upcoming,) = shop.sql.execute("SELECT next_at FROM forge.job_periodic").fetchone()
    assert upcoming > datetime.now(UTC) + timedelta(minutes=59)
    config = '[[jobs.periodic]]\nname = "tick"\nkind = "reindex_product"\ncron = "* * * * *"\n'
    shop.write("forge.toml", shop.read("forge.toml") + config)
    shop.ok("jobs", "periodic", "resume", "tick")
    (upcoming,) = shop.sql.execute("SELECT next_at FROM forge.job_periodic").fetchone()

    assert upcoming > datetime.now(UTC) + timedelta(minutes=59)
    assert ticks(shop) == []


@pytest.mark.parametrize("catch_up", ["last", "none"])
def test_years_of_missed_ticks_cost_one_job_at_most(shop, catch_up):
    process = entered(shop, entry(catch_up=catch_up, overlap=False))
    move(shop, days=3650)
    process.look()

    (tick,) = ticks(shop)
    assert datetime.fromisoformat(tick) > datetime.now(UTC) - timedelta(minutes=2)


def test_an_entry_that_cannot_be_written_stops_no_other(shop, capsys):
    shop.sql.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON forge.jobs
            FOR EACH ROW WHEN (NEW.kind = 'bad') EXECUTE FUNCTION refuse();
    """)
    process = entered(shop, entry(name="a", kind="bad"), entry(name="b"))
    for name in "ab":
        move(shop, name, minutes=0)
    process.look()

    assert len(ticks(shop)) == 1
    due = shop.sql.execute("SELECT name FROM forge.job_periodic WHERE next_at <= now()").fetchall()
    assert due == [("a",)]


def test_a_deployment_that_was_taken_back_leaves_the_entry_to_the_one_before(shop):
    older = entered(shop, entry(args={"v": 1}))
    entered(shop, entry(args={"v": 2}))
    older.ticks.see()
    move(shop, minutes=0)
    older.look()
    assert ticks(shop) == []

    shop.sql.execute("UPDATE forge.job_periodic SET seen_at = now() - interval '4 minutes'")
    older.ticks.see()
    older.look()
    assert len(ticks(shop)) == 1


def test_a_leader_that_dies_at_the_tick_leaves_it_to_the_next(shop):
    entered(shop, entry(catch_up="all"))
    move(shop, minutes=2)
    dying = Process(shop, entry(catch_up="all"))
    dying.ticks._is_entered = True

    def die(conn):
        dying.ticks._fire(conn)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dying.store.within(die)
    assert ticks(shop) == []
    Process(shop, entry(catch_up="all")).look()

    assert len(ticks(shop)) in {3, 4}


def test_a_tick_waits_for_none_whose_job_is_unfinished_if_they_must_not_overlap(shop):
    process = entered(shop, entry(overlap=False))
    move(shop, minutes=0)
    process.look()
    move(shop, minutes=0)
    process.look()
    assert len(ticks(shop)) == 1

    shop.sql.execute("DELETE FROM forge.jobs")
    move(shop, minutes=0)
    process.look()
    assert len(ticks(shop)) == 1


def test_two_deployments_leave_each_others_entries_alone(shop):
    older = entered(shop, entry(args={"v": 1}), entry(name="gone"))
    newer = entered(shop, entry(args={"v": 2}), entry(name="new"))
    for name in ("tick", "gone", "new"):
        move(shop, name, minutes=0)
    older.look()
    newer.look()

    rows = shop.sql.execute(
        "SELECT metadata ->> 'periodic', args ->> 'v' FROM forge.jobs ORDER BY 1"
    )
    assert rows.fetchall() == [("gone", None), ("new", None), ("tick", "2")]


def test_other_arguments_keep_the_next_tick_and_another_clock_makes_it_anew(shop):
    entered(shop, entry(cron="0 0 1 1 *"))
    shop.sql.execute("UPDATE forge.job_periodic SET next_at = now() - interval '1 minute'")
    entered(shop, entry(cron="0 0 1 1 *", args={"x": 1}))
    assert len(ticks(shop)) == 1

    shop.sql.execute("UPDATE forge.job_periodic SET next_at = now() - interval '1 minute'")
    entered(shop, entry(cron="0 0 2 1 *"))
    assert len(ticks(shop)) == 1


def utc(entry: Periodic, after: str, count: int) -> list[str]:
    found = entry.ticks(datetime.fromisoformat(after))
    return [next(found).strftime("%d %H:%M") for _ in range(count)]


def test_what_happens_when_the_clocks_change():
    daily = entry(cron="30 2 * * *", timezone="Europe/Berlin")
    # On 29 March 2026 the clocks go from 2 to 3: half past two comes as soon as it is three.
    assert utc(daily, "2026-03-28T00:00+00:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]
    # On 25 October they go from 3 back to 2: half past two comes twice, and is one tick.
    assert utc(daily, "2026-10-24T00:00+00:00", 3) == ["24 00:30", "25 00:30", "26 01:30"]
    # As the engine goes: from each tick anew, and from within the hour that comes twice.
    assert (
        utc(daily, "2026-10-25T00:30+00:00", 1)
        == utc(daily, "2026-10-25T01:15+00:00", 1)
        == ["26 01:30"]
    )
    hourly = entry(cron="30 * * * *", timezone="Europe/Berlin")
    assert utc(hourly, "2026-10-24T23:00+00:00", 4) == [
        "24 23:30",
        "25 00:30",
        "25 01:30",
        "25 02:30",
    ]


CONFIG = """
[[jobs.periodic]]
name = "every-minute"
kind = "reindex_product"
cron = "* * * * *"
catch_up = "all"
args = { resource_id = "0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e5f", tenant_id = "0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e60" }
priority = 1
"""


def test_workers_run_what_forge_toml_says_and_operators_pause_it(shop):
    config = shop.read("forge.toml")
    shop.write("forge.toml", config + CONFIG)
    assert "not entered" in shop.ok("jobs", "periodic", "list")
    shop.jobs("""
@worker(NotifyNewProductArgs)
def notify_new_product(args, job): pass

@worker(ReindexProductArgs)
def reindex_product(args, job):
    note(job.metadata["periodic"], current_tenant())
""")
    workers = [shop.work() for _ in range(3)]
    shop.until(lambda: shop.sql.execute("SELECT FROM forge.job_periodic").rowcount == 1)
    move(shop, "every-minute", minutes=9)
    workers[0].send_signal(signal.SIGKILL)
    shop.until(lambda: len(shop.notes()) >= 10)
    shop.drained()

    assert set(shop.notes()) == {"every-minute 0192f7c2-7a51-7cc1-9d3c-0a1b2c3d4e60"}
    found = ticks(shop)
    assert len(found) == len(set(found))
    (row,) = json.loads(shop.ok("jobs", "periodic", "list", "--json"))
    assert (row["state"], row["kind"]) == ("active", "reindex_product")

    shop.ok("jobs", "periodic", "pause", "every-minute")
    assert "paused" in shop.ok("jobs", "periodic", "list")
    before = len(ticks(shop))
    move(shop, "every-minute", minutes=3)
    job = int(shop.ok("jobs", "periodic", "run", "every-minute"))
    shop.until(lambda: shop.state(job)[0] == "completed")
    assert len(ticks(shop)) == before + 1
    shop.ok("jobs", "periodic", "resume", "every-minute")
    (row,) = json.loads(shop.ok("jobs", "periodic", "list", "--json"))
    assert datetime.fromisoformat(row["next_at"]) > datetime.now(UTC) - timedelta(seconds=5)
    again = shop.run("jobs", "periodic", "resume", "every-minute")
    assert "every-minute is not paused" in again.stderr
    wrong = shop.run("jobs", "periodic", "pause", "every-minut")
    assert wrong.returncode == 1
    assert "did you mean `every-minute`?" in wrong.stderr


def test_entries_that_no_worker_can_run_are_named(shop):
    config = shop.read("forge.toml")
    shop.write(
        "forge.toml",
        config
        + CONFIG.replace("resource_id =", "resource =")
        + CONFIG.replace("every-minute", "other").replace("reindex_product", "reindex"),
    )
    told = shop.run("jobs", "doctor").stdout

    assert "every-minute: the arguments do not fit ReindexProductArgs" in told
    assert "other: the kind `reindex` has no worker" in told
    assert "do not fit" in shop.run("jobs", "periodic", "run", "every-minute").stderr


def test_an_impossible_entry_is_told_with_its_place(build, project):
    config = project.read("forge.toml")
    project.write(
        "forge.toml",
        config
        + """
[[jobs.periodic]]
name = "a"
kind = "x"
cron = "61 * * * *"
timezone = "Europe/Berlim"

[[jobs.periodic]]
name = "b"
kind = "x"
cron = "0 0 31 2 *"
catch_up = "some"

[[jobs.periodic]]
name = "c"
cron = "0 0 * * *"
every = 1

[[jobs.periodic]]
name = "d"
kind = "x"
cron = "0 0 * * *"
args = { tenant_id = "acme" }
""",
    )
    status, _, errors = build()

    assert status == 1
    for said in (
        "forge.toml:8:8: ",
        "Bad minute",
        "forge.toml:9:12: ",
        "is no time zone",
        "forge.toml:14:8: ",
        "Bad day-of-month",
        "forge.toml:15:12: ",
        '"none", "last", "all"',
        "`kind` is missing",
        "forge.toml:20:9: ",
        "unknown key `every`",
        "has a tenant_id that is no UUID",
    ):
        assert said in errors, errors


def test_two_entries_of_one_name_are_told(build, project):
    one = '[[jobs.periodic]]\nname = "a"\nkind = "x"\ncron = "0 0 * * *"\n'
    project.write("forge.toml", project.read("forge.toml") + one + one)
    status, _, errors = build()

    assert status == 1
    assert "has the name of another entry, 'a'" in errors
