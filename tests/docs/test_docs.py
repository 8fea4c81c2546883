"""The pages are run, and say everything that there is."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from forgecore_jobs.changes import CODES as JOBS_CHANGES
from forgecore_jobs.checks import CODES as JOBS_CODES
from forgecore_jobs.options import Hook
from forgecore_jobs.settings import JobsSettings
from forgecore_jobs.views import SLOTS as JOBS_SLOTS

import forgecore.runtime
from conftest import ROOT, Project
from forgecore.cli.app import CORE_COMMANDS
from forgecore.config import CORE_SECTIONS
from forgecore.data import forgecore_field_types
from forgecore.data.actions import SLOTS as ACTION_SLOTS
from forgecore.data.changes import CODES as DATA_CHANGES
from forgecore.diagnostics import CODES
from forgecore.plugin import FieldTypesContext, hookspecs
from forgecore.schema.structure import FieldTable, RelationTable, ResourceTable

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """Runs the blocks of pages in one project, as a reader would."""

    def __init__(self, project: Project) -> None:
        self.project = project
        tools = str(Path(sys.executable).parent)
        self.environ = {
            **project.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "FORGE_ENV": "production",
            **{
                f"GIT_{who}_{what}": "reader"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def run(self, name: str) -> None:
        printed = ""
        for language, attributes, text in FENCE.findall((DOCS / name).read_text()):
            given = dict(re.findall(r"(\w+)=(\S+)", attributes))
            if "file" in given:
                self.project.write(given["file"], text)
            elif language == "sh" and "background" in given:
                printed = self.background(text.split())
            elif language == "sh":
                for line in text.splitlines():
                    printed = self.foreground(line.split())
            elif language == "python":
                printed = self.foreground([sys.executable, "-c", text])
            elif language == "sql":
                code = f"import forgecore.runtime as rt\nwith rt.connect() as db, db.transaction() as tx: tx.execute({text!r})"
                self.foreground([sys.executable, "-c", code])
            elif language == "text":
                assert printed == text

    def foreground(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.project.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def background(self, command: list[str]) -> str:
        """Run a command until it has printed something, and end it."""
        path = self.project.folder / "printed"
        with path.open("w") as output:
            child = subprocess.Popen(
                command,
                cwd=self.project.folder,
                env=self.environ,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + 30
        while not path.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        child.wait(30)
        return path.read_text()


def test_the_tutorial_and_the_how_to_run_as_they_stand(project):
    project.folder.mkdir(parents=True, exist_ok=True)
    page = Page(project)
    try:
        page.run("tutorial.md")
        page.run("howto/worker-dependencies.md")
        page.foreground([sys.executable, "-m", "forgecore", "db", "start"])
        page.run("jobs.md")
        states = page.foreground(
            [sys.executable, "-m", "forgecore", "jobs", "list", "--kind", "send_report"]
        )
        assert "completed" in states
        page.foreground(
            [
                sys.executable,
                "-c",
                "import shop.resources.product.jobs as j; j.mailer.send('a', 'b')",
            ]
        )
    finally:
        project.run("db", "stop")


def taken_from_files() -> list[tuple[str, str]]:
    """Return the blocks of the pages that say which file they are of, with its path."""
    return [
        (match["path"], text)
        for page in sorted(DOCS.rglob("*.md"))
        for _, attributes, text in FENCE.findall(page.read_text())
        if (match := re.search(r"from=(?P<path>\S+)", attributes))
    ]


def test_what_a_page_shows_of_a_file_stands_there():
    blocks = taken_from_files()
    assert len(blocks) > 15
    for path, text in blocks:
        # Functions that do not stand one below the other are shown so.
        for part in text.split("\n\n\n"):
            assert part.rstrip("\n") in (ROOT / path).read_text(), path


def test_each_hookspec_and_slot_is_shown_by_an_example_that_is_tested():
    text = "\n".join(text for _, text in taken_from_files())
    names = [name for name in vars(hookspecs) if name.startswith("forgecore_")]
    assert [name for name in names if f"def {name}(" not in text] == []
    slots = [slot.name for slot in (*ACTION_SLOTS, *JOBS_SLOTS)]
    page = (DOCS / "howto" / "write-a-plugin.md").read_text()
    assert [name for name in slots if f"`{name}`" not in page] == []
    shown = [path for path, _ in taken_from_files() if path.endswith(".mako")]
    folder = ROOT / "examples/plugins/forgecore-audit/forgecore_audit/templates"
    used = {path.name for path in folder.iterdir()} - {"words.py.mako"}
    assert used <= {Path(path).name for path in shown}


@pytest.mark.parametrize(
    "page",
    [
        "howto/build-in-ci.md",
        "howto/change-schema.md",
        "howto/unique-jobs.md",
        "howto/order-jobs.md",
        "howto/chain-jobs.md",
        "howto/limit-jobs.md",
        "howto/periodic-jobs.md",
        "howto/enqueue-elsewhere.md",
        "howto/change-jobs.md",
        "howto/test-jobs.md",
    ],
)
def test_how_tos_of_jobs_run_as_they_stand(project, server, page):
    name = f"docs_{uuid.uuid4().hex[:8]}"
    project.url = server.database(name)
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs", "scaffold"]\n')
    runner = Page(project)
    runner.environ["FORGE_TEST_DATABASE_URL"] = server.url
    runner.run(page)
    server.drop(name)


def test_the_schema_of_the_readme_builds(project):
    text = (ROOT / "README.md").read_text()
    (schema,) = [body for language, _, body in FENCE.findall(text) if language == "toml"]
    project.write(
        "forge.toml",
        '[project]\nname = "shop"\nplugins = ["jobs"]\n[jobs.queues]\nnotifications = 1\n',
    )
    project.write("schema/product.toml", schema)

    project.ok("build")

    made = project.read("shop/gen/actions/product.py")
    for line in (
        "class ProductActions(_Product, Actions[Product]):",
        '@enqueues("notify_new_product")',
    ):
        assert line in made
        assert line in text


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_readmes_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def missing(page: str, words) -> list[str]:
    text = (DOCS / "reference" / page).read_text()
    return [word for word in words if f"`{word}`" not in text]


def names(cls) -> list[str]:
    return [attribute.name for attribute in cls.__attrs_attrs__]


def test_every_hookspec_and_slot_is_documented():
    specs = [name for name in vars(hookspecs) if name.startswith("forgecore_")]

    assert missing("plugins.md", specs) == []
    assert missing("plugins.md", [slot.name for slot in (*ACTION_SLOTS, *JOBS_SLOTS)]) == []


def test_every_key_and_type_of_the_schema_is_documented():
    types = [one.name for one in forgecore_field_types(FieldTypesContext(plugins=()))]

    for cls in (ResourceTable, FieldTable, RelationTable, Hook):
        assert missing("schema.md", names(cls)) == []
    assert missing("schema.md", types) == []


def test_every_setting_is_documented():
    for section, cls in {**CORE_SECTIONS, "jobs": JobsSettings}.items():
        assert missing("settings.md", [f"{section}.{name}" for name in names(cls)]) == []


def test_every_code_and_error_is_documented():
    classes = [
        name
        for name, value in vars(forgecore.runtime).items()
        if isinstance(value, type) and issubclass(value, forgecore.runtime.ForgeError)
    ]

    codes = [*CODES, *JOBS_CODES, *DATA_CHANGES, *JOBS_CHANGES]
    assert missing("errors.md", [*codes, *classes]) == []


def commands(group, path) -> list[tuple[str, object]]:
    found = []
    for name, command in group.commands.items():
        found.append((f"{path} {name}", command))
    return found


def test_every_command_is_documented_and_has_help_with_an_example(built):
    import importlib

    import click
    from forgecore_jobs.commands import jobs
    from forgecore_scaffold.commands import scaffold

    groups = [getattr(importlib.import_module(f"forgecore.cli.{n}"), n) for n in CORE_COMMANDS]
    every = []
    for command in (*groups, jobs, scaffold):
        if isinstance(command, click.Group):
            every += commands(command, f"forgecore {command.name}")
        else:
            every.append((f"forgecore {command.name}", command))

    assert missing("cli.md", [name for name, _ in every]) == []
    for name, command in every:
        assert f"Example: {name}" in command.help, name
    assert "forgecore" in built.ok("--help")
    assert "0.1.0" in built.ok("--version")
