"""Who installs what: each set of distributions alone, as a fresh environment has it."""

import os
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from conftest import ROOT

SOURCES = {
    "forgecore": ROOT / "forgecore",
    "forgecore-jobs": ROOT / "plugins/jobs/forgecore_jobs",
}


def closure(*wanted: str) -> dict[str, Distribution]:
    """Return what pip would install for the requirements, from what is installed here."""
    found: dict[str, Distribution] = {}
    todo = [Requirement(one) for one in wanted]
    seen = set()
    while todo:
        requirement = todo.pop()
        extras = requirement.extras or {""}
        if (requirement.name, *sorted(extras)) in seen:
            continue
        seen.add((requirement.name, *sorted(extras)))
        dist = found.setdefault(requirement.name, distribution(requirement.name))
        for text in dist.requires or ():
            inner = Requirement(text)
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in extras | {""}
            ):
                todo.append(inner)
    return found


@pytest.fixture
def environment(tmp_path):
    """Make a folder that holds the distributions and nothing else, and run Python on it alone."""

    def make(*wanted):
        site = tmp_path / "site"
        site.mkdir()
        for name, dist in closure(*wanted).items():
            tops = {path.parts[0] for path in dist.files or () if path.parts[0] != ".."}
            for top in tops:
                source = Path(str(dist.locate_file(top)))
                if source.exists() and not top.endswith(".pth") and not top.startswith("__"):
                    (site / top).symlink_to(source)
            if name in SOURCES:
                (site / SOURCES[name].name).symlink_to(SOURCES[name])

        def run(code, cwd=tmp_path):
            return subprocess.run(
                [sys.executable, "-S", "-P", "-c", code],
                cwd=cwd,
                env={
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "PYTHONPATH": f"{site}:{cwd}",
                    "HOME": str(tmp_path),
                },
                capture_output=True,
                text=True,
                check=False,
            )

        return run

    return make


FORGECORE = "import sys; sys.argv = ['forgecore', {}]; from forgecore.__main__ import main; main()"
PRODUCT = '[resource]\nname = "Product"\n[fields]\ntitle = { type = "string" }\n'
HOOK = '[[hooks.after_create]]\nkind = "notify"\n'


def test_the_core_builds_alone_and_names_the_package_of_hooks(environment, project):
    run = environment("forgecore[build]")
    assert run("import dramatiq").returncode == 1
    assert run("import forgecore_jobs").returncode == 1
    project.write("forge.toml", "")
    project.write("schema/product.toml", PRODUCT)

    done = run(FORGECORE.format("'build'"), project.folder)
    assert done.returncode == 0, done.stderr
    assert "Product" in project.read("shop/gen/actions/product.py")

    project.write("schema/product.toml", PRODUCT + HOOK)
    done = run(FORGECORE.format("'build'"), project.folder)
    assert done.returncode == 1
    assert "[hooks] belongs to forgecore-jobs" in done.stderr


def test_a_web_host_needs_the_runtime_and_the_jobs_package(environment, project):
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["jobs"]\n')
    project.write("schema/product.toml", PRODUCT + HOOK)
    project.ok("build")
    run = environment("forgecore", "forgecore-jobs")
    assert run("import mako").returncode == 1
    assert run("import click").returncode == 1
    assert run("import dramatiq").returncode == 0

    done = run("import shop.gen.actions.product, forgecore_jobs; print('ok')", project.folder)

    assert done.stdout == "ok\n", done.stderr


def test_the_command_without_the_build_extra_says_what_to_install(environment):
    run = environment("forgecore")

    done = run(FORGECORE.format("'build'"))

    assert done.returncode == 3
    assert "pip install 'forgecore[build]'" in done.stderr
    assert "Traceback" not in done.stderr
