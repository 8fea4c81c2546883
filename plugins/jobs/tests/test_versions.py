"""Jobs that outlive their kind's name, and the shape of its arguments."""

import json

import pytest

WORKERS = """
from typing import ClassVar
from attrs import frozen

@worker(NotifyNewProductArgs)
def notify_new_product(args, job): pass

@worker(ReindexProductArgs)
def reindex_product(args, job): pass

@frozen
class MailArgs:
    kind: ClassVar[str] = "mail"
    version: ClassVar[int] = 3
    address: str
    subject: str

def second(args):
    return {**args, "subject": args.pop("title")}

def third(args):
    return {"address": args["to"], "subject": args["subject"]}

@worker(MailArgs, aliases=("post", "telegraph"), upcasters=STEPS)
def mail(args, job):
    note(job.kind, args.address, args.subject)
"""
BOTH = WORKERS.replace("STEPS", "{1: second, 2: third}")


def mail(shop, args: dict[str, str], version: int | None = None, kind: str = "mail") -> int:
    metadata = {} if version is None else {"args_version": str(version)}
    return shop.enqueue(kind, args=json.dumps(args), metadata=json.dumps(metadata), tenant_id=None)


def test_older_arguments_and_names_run_in_the_newest_worker(shop):
    shop.jobs(BOTH)
    mail(shop, {"to": "a", "title": "one"})
    mail(shop, {"to": "b", "subject": "two"}, version=2, kind="post")
    mail(shop, {"address": "c", "subject": "three"}, version=3, kind="telegraph")
    shop.work()
    shop.drained()

    assert sorted(shop.notes()) == ["mail a one", "post b two", "telegraph c three"]


def test_dramatiqs_command_knows_the_old_names_too(shop):
    import sys

    shop.jobs(BOTH)
    mail(shop, {"to": "b", "subject": "two"}, version=2, kind="post")
    shop.workers.append(
        shop.start(sys.executable, "-m", "dramatiq", "shop.gen.jobs.dramatiq", "-p", "1", "-t", "1")
    )
    shop.drained(30)

    assert shop.notes() == ["post b two"]


def test_newer_arguments_wait_for_a_newer_worker(shop):
    shop.jobs(BOTH)
    job = mail(shop, {"address": "c"}, version=4)
    shop.work()
    shop.until(lambda: shop.lines("job.newer"))
    shop.until(lambda: shop.state(job)[0] == "scheduled")

    assert shop.state(job)[2:] == (0, [])


@pytest.mark.parametrize(
    ("steps", "args", "said"),
    [
        ("{2: third}", {"to": "a"}, "no upcaster makes version 1"),
        ("{1: second, 2: third}", {"to": "a"}, "the upcaster of version 1 failed: KeyError"),
        ("{1: second, 2: lambda args: 7}", {"to": "a", "title": "t"}, "args"),
    ],
)
def test_arguments_that_cannot_be_made_new_are_discarded_with_the_reason(shop, steps, args, said):
    shop.jobs(WORKERS.replace("STEPS", steps))
    job = mail(shop, args)
    shop.work()
    shop.drained()

    assert shop.state(job) == ("discarded", 1, 1, ["ArgumentsError"])
    (message,) = shop.sql.execute("SELECT message FROM forge.job_errors").fetchone()
    assert said in message


def test_every_enqueue_notes_the_version(shop):
    shop.jobs(BOTH)
    done = shop.python("""
from forgecore.runtime import connect
from forgecore_jobs import enqueue, enqueue_many
from shop.resources.product.jobs import MailArgs
with connect() as db:
    enqueue(db, MailArgs("a", "b"))
    enqueue_many(db, [MailArgs("c", "d")])
""")
    assert done.returncode == 0, done.stderr
    shop.ok("jobs", "enqueue", "mail", "--args", '{"address": "x", "subject": "y"}')
    entry = '\n[[jobs.periodic]]\nname = "m"\nkind = "mail"\ncron = "0 0 1 1 *"\nargs = { address = "x", subject = "y" }\n'
    shop.write("forge.toml", shop.read("forge.toml") + entry)
    shop.ok("jobs", "periodic", "run", "m")
    versions = "SELECT metadata ->> 'args_version' FROM forge.jobs"

    assert shop.sql.execute(versions).fetchall() == [("3",)] * 4
    shop.work()
    shop.drained()
    assert len(shop.notes()) == 4


def test_doctor_names_versions_that_nobody_reads(shop):
    shop.jobs(WORKERS.replace("STEPS", "{2: third}"))
    mail(shop, {"to": "a"})
    mail(shop, {"to": "a"}, version=2)
    mail(shop, {"to": "a"}, version=9)
    told = shop.run("jobs", "doctor").stdout

    assert "1 job of kind `mail` with arguments of version 1: no upcaster from version 1" in told
    assert "version 9: the worker here reads 3 at most" in told
    assert "version 2:" not in told


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("STEPS", "{1: second}", "an upcaster from version 2 is missing"),
        ('aliases=("post", "telegraph")', 'aliases="post"', "aliases is a tuple of names"),
    ],
)
def test_what_would_lose_jobs_is_told_at_the_start(shop, old, new, said):
    shop.jobs(WORKERS.replace(old, new).replace("STEPS", "{1: second, 2: third}"))
    done = shop.run("jobs", "work")

    assert done.returncode == 1
    assert said in done.stderr


def test_an_upcaster_from_nowhere_is_told(shop):
    shop.jobs(WORKERS.replace("STEPS", "{3: third}"))
    done = shop.run("jobs", "work")

    assert done.returncode == 1
    assert "there is no upcaster from version 3: MailArgs has version 3" in done.stderr
