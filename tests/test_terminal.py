"""What people see: colours and progress on a terminal, nothing of it anywhere else."""

import os
import pty
import subprocess
import sys

import pytest

SCHEMA = '[resource]\nname = "Tag"\n[fields]\ntitle = { type = "strnig" }\n'
SLOW = """
import time
from forgecore.plugin import hookimpl

@hookimpl
def forgecore_check(ctx):
    time.sleep(1.6)
"""


def on_terminal(project, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run a command with a terminal for its output; return its status and all that it showed."""
    ours, theirs = pty.openpty()
    environ = {**project.environ, "TERM": "xterm", **variables}
    environ = {name: value for name, value in environ.items() if name != "NO_COLOR" or value}
    process = subprocess.Popen(
        [sys.executable, "-m", "forgecore", *arguments],
        cwd=project.folder,
        env=environ,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def test_mistakes_are_red_on_a_terminal(project):
    project.write("schema/tag.toml", SCHEMA)
    status, shown = on_terminal(project, "build")

    assert status == 1
    assert "schema/tag.toml:4:18: \x1b[0m\x1b[31m\x1b[1merror[unknown-type]\x1b[0m: " in shown
    assert "\x1b[31m^^^^^^^^\x1b[0m" in shown


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nobody_has_to_have_colours(project, variables):
    project.write("schema/tag.toml", SCHEMA)
    assert "\x1b" not in on_terminal(project, "build", **variables)[1]


def test_a_pipe_gets_plain_text(project):
    project.write("schema/tag.toml", SCHEMA)
    assert "\x1b" not in project.run("build", env={"TERM": "xterm"}).stderr


def test_a_diff_has_the_colours_of_one(project):
    project.write("schema/tag.toml", SCHEMA.replace("strnig", "string"))
    project.ok("build")
    project.write("schema/tag.toml", SCHEMA.replace("strnig", "text"))
    _, shown = on_terminal(project, "build", "--diff")
    assert shown == "nothing to do: 11 files are as they should be\n"

    project.write("schema/tag.toml", SCHEMA.replace("strnig", "int"))
    _, shown = on_terminal(project, "build", "--diff")
    assert "\x1b[31m-    title: str | None\n\x1b[0m\x1b[32m+    title: int | None\n" in shown


def test_what_takes_its_time_is_told(project):
    project.write("schema/tag.toml", SCHEMA.replace("strnig", "string"))
    for name, text in (
        ("slow.py", SLOW),
        ("slow-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n"),
        ("slow-1.0.dist-info/entry_points.txt", "[forgecore]\nslow = slow\n"),
    ):
        project.write(name, text)
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["slow"]\n')
    status, shown = on_terminal(project, "build", "--force")
    assert status == 0
    assert "\r\x1b[Kstage check, plugin slow ..." in shown
    # The line goes away.
    assert "\r\x1b[Kwrote shop/gen" in shown
    assert "..." not in project.run("build", "--force").stderr
