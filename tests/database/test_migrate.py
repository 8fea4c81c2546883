"""Migrations: the catalogue is compared, files run once, two runners do not mix."""

import json
import re
import subprocess
import sys
import uuid

import psycopg
import pytest
from forgecore_jobs.tables import migrations

from conftest import Project

JOBS = ["jobs"] * len(migrations())
"""The owners of the jobs plugin's steps."""
PRODUCT = """
[resource]
name = "Product"
tenant_scoped = true

[fields]
title = { type = "string", required = true, max_length = 20 }
"""


@pytest.fixture
def shop(project, server):
    name = f"migrate_{uuid.uuid4().hex[:12]}"
    project.url = server.database(name)
    project.write("schema/product.toml", PRODUCT)
    yield project
    server.drop(name)


def query(shop, text):
    with psycopg.connect(shop.url, autocommit=True) as conn:
        cursor = conn.execute(text)
        return cursor.fetchall() if cursor.description else []


def migrated(shop, name=None):
    shop.ok("migrate", "up")
    said = shop.ok("migrate", "diff", *([name] if name else []))
    shop.ok("migrate", "up")
    return said


def test_diff_writes_what_is_new_and_then_finds_nothing(shop):
    said = migrated(shop, "first")

    assert said.startswith("wrote migrations/") and said.endswith("_first.sql\n")
    assert shop.ok("migrate", "diff") == "nothing to do\n"
    assert shop.ok("migrate", "up") == "nothing to do\n"
    owners = query(shop, "SELECT owner, version FROM forge.migrations ORDER BY applied_at")
    assert [owner for owner, _ in owners] == [*JOBS, "application"]


def test_new_fields_relations_indexes_and_constraints_are_written(shop):
    migrated(shop)
    shop.write("schema/category.toml", '[resource]\nname = "Category"\ntenant_scoped = true\n')
    shop.write(
        "schema/product.toml",
        PRODUCT
        + """
rank = { type = "int", default = 1, min = 0, sortable = true }
sku  = { type = "string", unique = true }
[relations]
category = { belongs_to = "Category", on_delete = "set_null" }
parent = { belongs_to = "Product" }
[[unique]]
fields = ["title", "category"]
[[index]]
fields = ["rank", "sku"]
""",
    )

    shop.ok("migrate", "diff")
    shop.ok("migrate", "up")

    assert shop.ok("migrate", "diff") == "nothing to do\n"
    # From nothing to here in one step is the same catalogue.
    texts = sorted((shop.folder / "migrations").glob("*.sql"))
    assert len(texts) == 2
    assert "products_sku_key" in texts[1].read_text()


def test_diff_needs_a_database_at_the_newest_file(shop):
    done = shop.run("migrate", "diff")

    assert done.returncode == 1
    assert "forgecore migrate up" in done.stderr
    assert not (shop.folder / "migrations").exists()


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("max_length = 20", "max_length = 30", "products_title_check"),
        ('type = "string", required', 'type = "int", required', "products.title"),
        ("required = true, ", "", "products.title"),
        ("title =", "name =", "products.title is in the database and not in the schema"),
        ("tenant_scoped = true", "", "products.tenant_id"),
        ("max_length = 20 }", "max_length = 20, default = 'x' }", "products.title"),
    ],
)
def test_what_cannot_be_written_yet_is_reported_and_nothing_is_written(shop, before, after, named):
    migrated(shop)
    text = PRODUCT.replace(before, after)
    if 'type = "int"' in after:
        text = text.replace(", max_length = 20", "")
    shop.write("schema/product.toml", text)

    done = shop.run("migrate", "diff")

    assert done.returncode == 1, done.stdout
    assert named in done.stderr
    # By the name that it is given, the file stands behind those that ran.
    (path,) = re.findall(r"by hand, as (migrations/\d{14}_\w+\.sql)", done.stderr)
    (first,) = (shop.folder / "migrations").glob("*.sql")
    assert path > f"migrations/{first.name}"
    assert len(list((shop.folder / "migrations").glob("*.sql"))) == 1


def test_tables_of_others_are_left_alone(shop):
    migrated(shop)
    query(shop, "CREATE TABLE mine (id int)")
    query(shop, "CREATE INDEX by_hand ON products (title)")

    assert shop.ok("migrate", "diff").splitlines() == [
        "left alone: the table mine is in the database and not in the schema",
        "nothing to do",
    ]


def test_two_runners_at_once_wait_for_each_other(shop):
    shop.ok("migrate", "up")
    shop.ok("migrate", "diff")
    path = next((shop.folder / "migrations").glob("*.sql"))
    path.write_text(path.read_text() + "\nSELECT pg_sleep(1);\n")
    command = [sys.executable, "-m", "forgecore", "migrate", "up"]
    runners = [
        subprocess.Popen(
            command, cwd=shop.folder, env=shop.environ, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    outputs = sorted(runner.communicate(timeout=60)[0] for runner in runners)

    assert [runner.returncode for runner in runners] == [0, 0, 0]
    assert outputs[1:] == ["nothing to do\n", "nothing to do\n"]
    assert outputs[0].startswith("applied migrations/")


def test_a_file_changed_after_it_ran_is_an_error(shop):
    migrated(shop)
    path = next((shop.folder / "migrations").glob("*.sql"))
    path.write_text(path.read_text() + "-- more\n")

    done = shop.run("migrate", "up")

    assert done.returncode == 1
    assert path.name in done.stderr
    assert "CHANGED" in shop.ok("migrate", "status")


def test_a_failing_file_is_named_with_its_place_and_leaves_nothing(shop):
    migrated(shop)
    shop.write("migrations/30000101000000_bad.sql", "CREATE TABLE half ();\nSELECT  nope;\n")

    done = shop.run("migrate", "up")

    assert done.returncode == 1
    assert "migrations/30000101000000_bad.sql:2:9: error[migration]: column" in done.stderr
    assert query(shop, "SELECT to_regclass('half')") == [(None,)]


def test_a_file_may_ask_for_no_transaction(shop):
    migrated(shop)
    shop.write(
        "migrations/30000101000000_index.sql",
        "-- forgecore: no transaction\nCREATE INDEX CONCURRENTLY by_hand ON products (title);\n"
        "-- it's; done\nCREATE INDEX CONCURRENTLY by_id ON products (id);\nSELECT ';', $$;$$;\n",
    )
    shop.write(
        "migrations/30000101000000_index.down.sql",
        "-- forgecore: no transaction\nDROP INDEX CONCURRENTLY by_hand; DROP INDEX CONCURRENTLY by_id",
    )

    shop.ok("migrate", "up")
    assert query(shop, "SELECT to_regclass('by_hand')::text") == [("by_hand",)]

    shop.ok("migrate", "down")
    assert query(shop, "SELECT to_regclass('by_hand')::text, to_regclass('by_id')") == [
        (None, None)
    ]


def test_down_undoes_the_newest_file_or_says_it_cannot(shop):
    migrated(shop, "first")

    done = shop.run("migrate", "down")
    assert done.returncode == 1
    assert "has no down file" in done.stderr

    path = next((shop.folder / "migrations").glob("*_first.sql"))
    path.with_name(path.stem + ".down.sql").write_text("DROP TABLE products;\n")
    assert shop.ok("migrate", "down").startswith("undid migrations/")
    assert query(shop, "SELECT to_regclass('products')") == [(None,)]
    shop.ok("migrate", "up")
    assert query(shop, "SELECT to_regclass('products')::text") == [("products",)]


def test_status_says_what_ran_and_when(shop):
    states = json.loads(shop.ok("migrate", "status", "--json"))
    assert [(one["owner"], one["applied_at"]) for one in states] == [
        (owner, None) for owner in JOBS
    ]
    assert "pending" in shop.ok("migrate", "status")

    migrated(shop)

    states = json.loads(shop.ok("migrate", "status", "--json"))
    assert [one["owner"] for one in states] == [*JOBS, "application"]
    assert all(one["applied_at"] for one in states)


def test_status_says_what_ran_and_is_gone(shop):
    migrated(shop)
    for path in shop.folder.glob("migrations/*.sql"):
        path.unlink()
    shop.write("forge.toml", '[project]\nname = "shop"\nplugins = []\n')

    states = json.loads(shop.ok("migrate", "status", "--json"))

    assert [(one["owner"], one["missing"]) for one in states] == [
        ("application", True),
        *((owner, True) for owner in JOBS),
    ]
    assert shop.ok("migrate", "status").count("MISSING now") == 1 + len(JOBS)


def test_a_file_of_another_name_is_an_error(shop):
    shop.write("migrations/first.sql", "SELECT 1")

    done = shop.run("migrate", "up")

    assert done.returncode == 1
    assert "migrations/first.sql" in done.stderr


def test_what_the_environment_refuses_is_said_without_a_traceback(shop):
    for env in ({"FORGE_DATABASE_URL": "garbage"}, {"FORGE_DATABASE_URL": "postgresql://x y"}):
        done = shop.run("migrate", "up", env=env)

        assert done.returncode == 3
        assert "Traceback" not in done.stderr


def test_a_file_that_is_no_text_is_named(shop):
    shop.write("migrations/30000101000000_bad.sql", "")
    (shop.folder / "migrations/30000101000000_bad.sql").write_bytes(b"\xff")

    done = shop.run("migrate", "up")

    assert done.returncode == 1
    assert "30000101000000_bad.sql" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_server_is_exit_3(shop):
    done = shop.run("migrate", "up", env={"FORGE_DATABASE_URL": "postgresql:///x?host=/nowhere"})

    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_a_search_path_to_the_plugins_schema_is_refused(shop):
    query(shop, "CREATE SCHEMA forge")

    done = shop.run(
        "migrate", "up", env={"FORGE_DATABASE_URL": shop.url + "&options=-csearch_path%3Dforge"}
    )

    assert done.returncode == 1
    assert "search_path" in done.stderr


_ = Project
