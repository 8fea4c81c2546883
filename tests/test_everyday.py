"""What everybody needs around a build: a first project, pictures, who made what."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from forgecore.cli.app import CORE_COMMANDS, app

SCHEMA = """
[resource]
name = "Product"

[fields]
title = { type = "string", required = true, max_length = 20 }
price = { type = "decimal", precision = 8, scale = 2, default = "1.50" }

[relations.parent]
belongs_to = "Product"

[[hooks.after_create]]
kind = "announce_product"
timeout = "30s"
"""


@pytest.mark.parametrize("plugins", [None, "", "jobs"])
def test_a_first_project_builds_migrates_and_passes_its_own_test(project, server, plugins):
    import uuid

    name = f"init_{uuid.uuid4().hex[:8]}"
    project.url = server.database(name)
    env = {"FORGE_TEST_DATABASE_URL": server.url, "FORGE_PROJECT_DIR": ""}
    options = [] if plugins is None else ["--plugins", plugins]
    done = project.run("init", "first", *options, env=env)
    assert done.returncode == 0, done.stderr
    steps = [line.strip() for line in done.stdout.partition("next:\n")[2].splitlines()]
    assert steps[0] == "cd first"
    assert ("forgecore scaffold" in steps) == (plugins is None)
    first = project.folder / "first"
    environ = {**project.environ, **env, "FORGE_PROJECT_DIR": str(first), "PYTHONPATH": str(first)}
    for step in steps:
        if step in {"forgecore jobs work", "cd first"}:
            continue
        words = step.split()
        words[:1] = (
            [sys.executable, "-m", "forgecore"] if words[0] == "forgecore" else [sys.executable]
        )
        ran = subprocess.run(
            words, cwd=first, env=environ, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    # What a test writes is not left in the project's database.
    import psycopg

    with psycopg.connect(project.url) as sql:
        assert sql.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    ruff = str(Path(sys.executable).parent / "ruff")
    for arguments in (["check", "--select", "E,F,I,UP,B"], ["format", "--check"]):
        ran = subprocess.run(
            [ruff, *arguments, "."], cwd=first, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout

    again = project.run("init", "first", env=env)
    assert again.returncode == 1
    assert "has a forge.toml already" in again.stderr
    server.drop(name)


def test_names_and_plugins_that_cannot_be_are_told(project):
    env = {"FORGE_PROJECT_DIR": ""}
    for arguments, said in (
        (("--name", "1st"), "the name `1st` is not in snake_case"),
        (("--plugins", "jbos"), "plugin `jbos` is not installed"),
    ):
        done = project.run("init", "x", *arguments, env=env)
        assert done.returncode == 1
        assert said in done.stderr
        assert not (project.folder / "x").exists()


@pytest.fixture
def built(project, build):
    project.write("schema/product.toml", SCHEMA)
    assert build()[0] == 0
    return project


def test_the_picture_has_relations_and_queues(built, build):
    _, out, _ = build("graph")

    assert out.splitlines() == [
        "flowchart LR",
        '    n0["Product"]',
        '    n1(["queue default"])',
        '    n0 -->|"parent"| n0',
        '    n0 -->|"after_create: announce_product"| n1',
    ]


def test_who_makes_a_file(built, build):
    status, out, _ = build("why", "shop/gen/actions/product.py")
    assert status == 0
    assert "shop/gen/actions/product.py: generated, as it should be" in out
    assert "template  forgecore.data:templates/actions.py.mako" in out
    assert "of        Product, schema/product.toml:3:8" in out
    assert "slot      actions.create.ctes: plugin `jobs` (forgecore-jobs " in out

    built.write("shop/gen/models/product.py", "x = 1\n")
    _, out, _ = build("why", "shop/gen/models/product.py", "--json")
    assert json.loads(out)["state"] == "edited: it was changed by hand"
    assert build("why", "gen/models/product.py", "--json")[1] == out
    _, out, _ = build("why", "shop/resources/product/jobs.py")
    assert ": scaffolded, yours" in out

    status, _, errors = build("why", "shop/gen/actions/produkt.py")
    assert status == 1
    assert "did you mean `shop/gen/actions/product.py`?" in errors


def test_who_takes_part(built, build):
    _, out, _ = build("plugins", "--json")
    found = {row["name"]: row for row in json.loads(out)}

    assert found["jobs"]["slots"]["actions.create.ctes"] == 1
    assert found["jobs"]["files"] == 3
    assert "forgecore_migrations" in found["jobs"]["hookspecs"]
    assert found["otel"]["state"] == "installed, and not in [project] plugins"
    assert "data (forgecore " in build("plugins")[1]

    built.write("schema/product.toml", SCHEMA.replace('"decimal"', '"decimul"'))
    status, out, errors = build("plugins")
    assert status == 0
    assert "jobs (forgecore-jobs " in out
    assert "unknown-type" in errors


def test_the_ir_for_programs(built, build):
    _, out, _ = build("ir", "--json")
    told = json.loads(out)
    (product,) = told["resources"]
    price = product["fields"][1]
    assert (price["default"], price["sql"], price["scale"]) == ("1.50", "numeric(8, 2)", 2)
    assert product["plugins"]["hooks"]["after_create"][0]["timeout"] == 30.0
    assert build("ir", "--json")[1] == out

    schema = json.loads(build("ir", "--schema")[1])
    parts = schema["$defs"]
    for found, promised in (
        (told, schema),
        (product, parts["resource"]),
        (price, parts["field"]),
        (product["relations"][0], parts["relation"]),
    ):
        assert sorted(found) == promised["required"] == sorted(promised["properties"])


def test_help_says_of_each_command_what_the_command_says(capsys):
    context = click.Context(app)
    for name, told in CORE_COMMANDS.items():
        command = app.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(200) == told


def test_help_names_the_commands_of_plugins_with_and_without_what_is_remembered(built):
    first = built.run("--help").stdout
    assert "jobs" in first
    assert "Run and manage jobs." in first
    assert built.run("--help").stdout == first
    built.write("forge.toml", '[project]\nname = "shop"\nplugins = ["scaffold"]\n')
    assert "Run and manage jobs." not in built.run("--help").stdout


def test_versions_for_programs(project):
    assert project.run("--version").stdout.startswith("forgecore, version ")
    assert "python" in json.loads(project.run("--version", "--json").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(build, project, shell):
    status, out, _ = build("completion", shell)
    assert status == 0
    assert "_FORGECORE_COMPLETE" in out


def test_what_a_shell_asks_is_answered(built):
    answer = built.run(
        env={
            "_FORGECORE_COMPLETE": "bash_complete",
            "COMP_WORDS": "forgecore bu",
            "COMP_CWORD": "1",
        }
    )
    assert answer.stdout.strip() == "plain,build"


# --- nothing to do


@pytest.fixture
def counted(built, monkeypatch):
    """Count the builds that do the work."""
    from forgecore.cli import building

    ran: list[object] = []
    run = building.run
    monkeypatch.setattr(building, "run", lambda wish: (ran.append(wish), run(wish))[1])
    return ran


def test_a_build_with_nothing_to_do_repeats_what_the_last_one_said(built, build, counted):
    first = build()
    second = build()
    assert second == first
    assert "warning[jobs/no-worker]" in second[2]
    assert len(counted) <= 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("schema/product.toml", SCHEMA.replace("20", "30")),
        ("schema/tag.toml", '[resource]\nname = "Tag"\n'),
        ("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs"]\n'),
        ("pyproject.toml", "[tool.ruff]\nline-length = 70\n"),
        ("shop/gen/models/product.py", "x = 1\n"),
        ("shop/resources/product/jobs.py", "# AnnounceProductArgs\n"),
        ("forge.lock", "\n"),
    ],
)
def test_whatever_a_build_reads_or_wrote_makes_the_next_one_work(built, build, counted, path, text):
    build()
    counted.clear()
    built.write(path, text)
    build()

    assert len(counted) == 1


def test_a_file_that_is_gone_is_written_again(built, build, counted):
    build()
    (built.folder / "shop/gen/models/product.py").unlink()
    assert "wrote shop/gen/models/product.py" in build()[1]


def test_what_changes_while_a_build_runs_is_built_by_the_next(built, build, counted, monkeypatch):
    from forgecore.cli import building

    run_build = building.run_build

    def slow(*arguments, **named):
        found = run_build(*arguments, **named)
        built.write("schema/product.toml", SCHEMA.replace("20", "40"))
        return found

    built.write("schema/product.toml", SCHEMA.replace("20", "30"))
    monkeypatch.setattr(building, "run_build", slow)
    build()
    monkeypatch.setattr(building, "run_build", run_build)
    assert "max_length=40" in (build(), built.read("shop/gen/validation/product.py"))[1]


def test_bad_variables_are_told_where_there_is_nothing_to_do(built, build, monkeypatch):
    build()
    monkeypatch.setenv("FORGE_JOBS_MAX_ATTEMPTS", "many")
    status, _, errors = build()
    assert status == 1
    assert "FORGE_JOBS_MAX_ATTEMPTS" in errors


def test_a_plugin_that_is_gone_is_missed_at_once(built):
    site = built.folder / "site"
    info = site / "forgecore_gone-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forgecore-gone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[forgecore]\ngone = forgecore_gone\n")
    (site / "forgecore_gone.py").write_text("")
    built.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs", "gone"]\n')
    there = {"PYTHONPATH": f"{built.environ['PYTHONPATH']}:{site}"}
    for _ in range(2):
        assert "nothing to do" in built.ok("build", env=there)
    done = built.run("build")

    assert done.returncode == 1
    assert "plugin `gone` is not installed" in done.stderr


def test_a_damaged_memory_is_no_reason_to_fail(built, build, counted):
    build()
    for path in (built.folder / ".forge" / "cache").iterdir():
        path.write_text('{"inputs": 3')
    assert build()[0] == 0
