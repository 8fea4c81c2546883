"""Settings: forge.toml and the environment, read alike by the build and the runtime."""

import json
from datetime import timedelta

import pytest
from forgecore_jobs.settings import JobsSettings

from forgecore.config import CORE_SECTIONS
from forgecore.location import find_project
from forgecore.runtime.errors import SettingsError
from forgecore.runtime.settings import (
    DatabaseSettings,
    ProjectSettings,
    parse_duration,
    project_package,
    read_section,
    variable_name,
)

SECTIONS = {**CORE_SECTIONS, "jobs": JobsSettings}

# key -> what the environment says, and what the attribute must then be
EVERY_KEY = {
    ("project", "name"): ("other", "other"),
    ("project", "package"): ("a.b", "a.b"),
    ("project", "plugins"): ("jobs, otel", ("jobs", "otel")),
    ("project", "plugin_timeout"): ("5s", timedelta(seconds=5)),
    ("database", "url"): ("postgresql:///x", "postgresql:///x"),
    ("database", "pool"): ("3", 3),
    ("database", "prepare"): ("off", False),
    ("jobs", "carrier"): ("postgres", "postgres"),
    ("jobs", "max_attempts"): ("7", 7),
    ("jobs", "queues"): ("default=3, mail = 2", {"default": 3, "mail": 2}),
    ("jobs", "grace"): ("90s", timedelta(seconds=90)),
    ("jobs", "listen"): ("no", False),
    ("jobs", "keep"): ("completed=2d", {"completed": timedelta(days=2)}),
    ("jobs", "periodic"): ("", ()),
    ("jobs", "global_limits"): ("default=3", {"default": 3}),
    ("jobs", "rate_limits"): ("default=10/min", {"default": "10/min"}),
    ("jobs", "tenant_limits"): ("default=2", {"default": 2}),
    ("jobs", "tenant_rate_limits"): ("default=5/30s", {"default": "5/30s"}),
    ("jobs", "round_robin"): ("default", ("default",)),
}


def test_the_table_has_every_key_of_every_section():
    known = {(name, a.name) for name, cls in SECTIONS.items() for a in cls.__attrs_attrs__}

    assert set(EVERY_KEY) == known


@pytest.mark.parametrize(("section", "key"), EVERY_KEY)
def test_the_environment_wins_for_every_key(project, monkeypatch, section, key):
    text, value = EVERY_KEY[section, key]
    project.write(
        "forge.toml",
        '[project]\nname = "shop"\n[database]\npool = 9\nurl = "embedded"\n'
        "[jobs]\nmax_attempts = 2\n[jobs.queues]\nmail = 1\nold = 1\n",
    )
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))
    monkeypatch.setenv(variable_name(section, key), text)

    assert getattr(read_section(SECTIONS[section], section), key) == value


def test_an_empty_forge_toml_is_a_project_named_after_its_folder(project, monkeypatch):
    project.write("forge.toml", "")
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))

    assert read_section(DatabaseSettings, "database") == DatabaseSettings()
    assert read_section(JobsSettings, "jobs").limits == {"default": 100}
    assert project_package() == "shop"
    project.ok("build")


def test_the_file_is_read_from_any_folder_below(project, monkeypatch):
    (project.folder / "a" / "b").mkdir(parents=True)
    monkeypatch.delenv("FORGE_PROJECT_DIR", raising=False)
    monkeypatch.chdir(project.folder / "a" / "b")

    assert find_project() == project.folder.resolve()


BAD = {
    "FORGE_JOBS_MAX_ATTEMPTS": "abc",
    "FORGE_JOBS_QUEUES": "default=0,mail,a b=1",
    "FORGE_DATABASE_POOL": "0",
    "FORGE_DATABASE_PREPARE": "perhaps",
    "FORGE_JOBS_CARRIER": "pigeon",
}


@pytest.mark.parametrize("command", [["build"], ["migrate", "status"], ["jobs", "work"]])
def test_every_command_names_a_bad_variable(project, command):
    for name, text in BAD.items():
        done = project.run(*command, env={name: text, "FORGE_DATABASE_URL": "postgresql:///x"})

        assert done.returncode == 1, (name, done.stderr)
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_every_fault_of_a_variable_is_told(project):
    done = project.run("build", env={"FORGE_JOBS_QUEUES": "default=0,mail,a b=1,x=y,d=2"})

    assert [line.partition("FORGE_JOBS_QUEUES: ")[2] for line in done.stderr.splitlines()[:-1]] == [
        "`mail` must be written name=value",
        "`x` must be a whole number",
        "`default` must be at least 1",
        "`a b` is no queue's name: 1 to 127 letters, digits and _ . : -",
    ]


def test_the_runtime_names_every_bad_variable_at_once(project, monkeypatch):
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))
    for name, text in BAD.items():
        monkeypatch.setenv(name, text)

    with pytest.raises(SettingsError) as error:
        read_section(JobsSettings, "jobs")
    assert {"FORGE_JOBS_MAX_ATTEMPTS", "FORGE_JOBS_QUEUES", "FORGE_JOBS_CARRIER"} == set(
        error.value.fields
    )


def test_the_runtime_and_the_build_refuse_the_same(project, monkeypatch):
    project.write(
        "forge.toml",
        '[project]\nname = "shop"\nplugins = ["jobs"]\n[jobs.queues]\nmail = 0\n"a b" = 1\nx = "y"\n',
    )
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))

    with pytest.raises(SettingsError) as error:
        read_section(JobsSettings, "jobs")
    done = project.run("build")

    assert done.returncode == 1
    for line in ("forge.toml:5:8", "forge.toml:6:9", "forge.toml:7:5"):
        assert line in done.stderr, (done.stderr, line)
    assert "jobs.queues.x" in error.value.fields
    assert done.stderr.count("error[") == 3


def test_durations():
    assert parse_duration("30s") == timedelta(seconds=30)
    assert parse_duration("1.5h") == timedelta(minutes=90)
    for bad in ("", "30", "s", "-1s", "1 day"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(bad)


def test_settings_know_no_build(shop):
    done = shop.python(
        "import sys, json; from forgecore.runtime import connect\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )

    assert not {"cattrs", "mako", "click", "pluggy", "tree_sitter", "dramatiq"} & set(
        json.loads(done.stdout)
    )


_ = ProjectSettings
