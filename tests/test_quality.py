"""Arrows, lint, types and start-up time: of our sources, and of what we generate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Project, copy_project

TOOLS = Path(sys.executable).parent
SOURCES = [
    "forgecore",
    "plugins/jobs/forgecore_jobs",
    "plugins/scaffold/forgecore_scaffold",
    "plugins/otel/forgecore_otel",
]
STRICT = ["--isolated", "--select", "ALL", "--ignore", "CPY001,D203,D213,COM812"]
FIRST = ["--config", 'lint.isort.known-first-party=["shop"]', "--target-version", "py311"]


def run(*command, cwd=ROOT, env=None):
    done = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=cwd,
        env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_arrows_run_one_way():
    run("lint-imports")


def test_sources_are_clean():
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")
    run("mypy", *SOURCES)
    run("pyright", "--pythonpath", sys.executable)


def pyright(folder, *include):
    (folder / "pyrightconfig.json").write_text(
        '{"typeCheckingMode": "strict", "pythonVersion": "3.11", "include": ['
        + ", ".join(f'"{name}"' for name in include)
        + "]}"
    )
    run("pyright", "--pythonpath", sys.executable, cwd=folder)


@pytest.fixture(scope="session")
def generated(built: Project, tmp_path_factory) -> Path:
    """A copy of the fixture project, every type and odd name in it."""
    folder = tmp_path_factory.mktemp("quality") / "project"
    copy_project(built.folder, folder)
    return folder


def test_generated_code_passes_every_rule_of_ruff(generated):
    long = ["--extend-ignore", "E501"]  # names of 60 letters make lines of over 88
    run("ruff", "check", *STRICT, *FIRST, *long, "shop", cwd=generated)
    run("ruff", "format", "--isolated", "--check", "shop", cwd=generated)


def test_the_examples_code_passes_every_rule_of_ruff():
    width = ["--config", "line-length = 100"]  # the example's own
    run("ruff", "check", *STRICT, *FIRST, *width, "shop/gen", cwd=ROOT / "examples" / "shop")


def test_generated_code_and_fresh_stubs_pass_mypy(generated):
    run("mypy", "--strict", "shop", cwd=generated)


def test_generated_code_and_fresh_stubs_pass_pyright(generated):
    pyright(generated, "shop")


def test_the_examples_tree_is_what_its_schema_builds(tmp_path):
    """The golden tree: read it in review like code."""
    copy_project(ROOT / "examples" / "shop", tmp_path / "shop")
    project = Project(tmp_path / "shop")

    assert "nothing to do" in project.ok("build")


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_mistakes_in_calls_are_errors_of_type(generated, checker):
    """Each line of tests/typing/mistakes.py that ends in `# E` is an error, and no other."""
    source = (ROOT / "tests" / "typing" / "mistakes.py").read_text()
    (generated / "mistakes.py").write_text(source)
    expected = {
        number
        for number, line in enumerate(source.splitlines(), 1)
        if line.endswith("# E") or (checker == "pyright" and line.endswith("# E pyright"))
    }
    if checker == "mypy":
        command = ["mypy", "--strict", "--no-error-summary", "mistakes.py"]
    else:
        (generated / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
        command = ["pyright", "--pythonpath", sys.executable, "mistakes.py"]
    done = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=generated,
        env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    (generated / "mistakes.py").unlink()
    found = {
        int(line.partition("mistakes.py:")[2].partition(":")[0])
        for line in done.stdout.splitlines()
        if "mistakes.py:" in line and "error" in line
    }
    assert found == expected, done.stdout


def cpu(code, env):
    best = 9.9
    for _ in range(5):
        timed = (
            "import resource\n" + code + "\n"
            "use = resource.getrusage(resource.RUSAGE_SELF); print(use.ru_utime + use.ru_stime)"
        )
        done = subprocess.run(
            [sys.executable, "-c", timed], env=env, capture_output=True, text=True, check=True
        )
        best = min(best, float(done.stdout))
    return best


def test_importing_actions_stays_within_its_budget(shop):
    """100 ms of CPU over psycopg's own; half of it again for a slow machine."""
    base = cpu("import psycopg, psycopg_pool", shop.environ)
    actions = cpu("import shop.gen.actions.product", shop.environ)

    assert actions - base < 0.15


def test_nothing_of_a_workplace_stands_in_the_repository():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        assert name != "uv.lock"
        path = ROOT / name
        if name.startswith("requirements") and path.is_file():
            assert "http://" not in path.read_text()
            assert "https://" not in path.read_text()
