"""What the author of a plugin has: a package to begin with, examples, and what judges them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

TOOLS = Path(sys.executable).parent


class Site:
    """A folder that pip installs packages into, behind what is installed here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "PYTHONPATH": str(folder), "FORGE_UPDATE": ""}
        self.environ.pop("FORGE_PROJECT_DIR", None)

    def install(self, package: Path) -> None:
        # A build in the package's folder would leave its traces there.
        self.run(
            *("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"),
            *("--disable-pip-version-check", "--target", str(self.folder), str(package)),
        )

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "site")


@pytest.mark.parametrize("name", ["audit", "a_much_longer_name_of_a_plugin"])
def test_a_new_plugin_installs_and_passes_its_own_test(site, tmp_path, name):
    site.run("-m", "forgecore", "plugin", "new", name, cwd=tmp_path)
    package = tmp_path / f"forgecore-{name.replace('_', '-')}"
    site.install(package)
    assert " passed" in site.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    if name == "audit":
        for arguments in (["check", "--select", "E,F,I,UP,B"], ["format", "--check"]):
            ruff = [str(TOOLS / "ruff"), *arguments, "--isolated", "--no-cache", "."]
            done = subprocess.run(ruff, cwd=package, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout
        site.run("-m", "mypy", "--strict", f"forgecore_{name}", "tests", cwd=package)


def test_a_name_that_is_taken_is_told(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data", "jobs"):
        status, _, errors = build("plugin", "new", name)
        assert status == 1
        assert f"there is a plugin `{name}` already" in errors


@pytest.mark.parametrize("name", ["1st", "Audit", ""])
def test_a_name_that_cannot_be_one_writes_nothing(build, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    status, _, errors = build("plugin", "new", name)
    assert status == 1
    assert "error[bad-name]" in errors
    assert not list(tmp_path.glob("forgecore-*"))


def test_a_folder_that_is_there_is_left_alone(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forgecore-audit").mkdir()
    (tmp_path / "forgecore-audit" / "mine").touch()
    status, _, errors = build("plugin", "new", "audit")
    assert status == 1
    assert "is there already, and not empty" in errors


@pytest.mark.parametrize("example", ["forgecore-color", "forgecore-audit"])
def test_the_examples_install_and_pass_their_tests(site, tmp_path, example):
    import shutil

    package = tmp_path / example
    shutil.copytree(ROOT / "examples" / "plugins" / example, package)
    site.install(package)

    assert " passed" in site.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    module = example.replace("-", "_")
    site.run("-m", "mypy", "--strict", module, "tests", cwd=package)


AUDITED = """
[resource]
name = "Product"
tenant_scoped = true

[fields]
title = { type = "string", required = true }
price = { type = "int" }

[audit]
fields = ["title"]

[[hooks.after_create]]
kind = "praise_product"
"""

WORKER = """
from forgecore_jobs import Job, worker
from shop.gen.actions.product import PraiseProductArgs, ProductActions
from shop.gen.models.product import ProductUpdate


@worker(PraiseProductArgs)
def praise_product(args: PraiseProductArgs, job: Job) -> None:
    ProductActions(job.tx).update(args.resource_id, ProductUpdate(title="great tea"))
"""

WRITES = """
import uuid
from forgecore.runtime import ForbiddenError, acting, connect
from shop.gen.actions.product import ProductActions
from shop.gen.models.product import ProductCreate, ProductUpdate

with connect() as db, acting(tenant=uuid.UUID(int=1)):
    products = ProductActions(db)
    try:
        products.create(ProductCreate(title="tea"))
    except ForbiddenError:
        print("forbidden")
    with acting(user=uuid.UUID(int=7)):
        product = products.create(ProductCreate(title="tea", price=3))
        gone = products.create(ProductCreate(title="gone"))
        try:
            with db.transaction() as tx:
                ProductActions(tx).update(product.id, ProductUpdate(title="never"))
                raise KeyError
        except KeyError:
            pass
    with acting(user=uuid.UUID(int=8)):
        products.delete(gone.id)
    print(product.id, gone.id)
"""

READS = """
import os, psycopg, uuid
from forgecore.runtime import acting
from shop.gen.audit.product import history
for tenant in (1, 2):
    with psycopg.connect(os.environ["FORGE_DATABASE_URL"]) as conn, acting(tenant=uuid.UUID(int=tenant)):
        print([(e.event, e.was, e.became, e.changed_by.int) for e in history(conn, uuid.UUID(RECORD))])
"""


def test_the_large_example_at_work(site, project, server):
    """It writes in the statement of the change, as the user of it, in a job as well."""
    import time
    import uuid

    site.install(ROOT / "examples" / "plugins" / "forgecore-audit")
    name = f"audit_{uuid.uuid4().hex[:8]}"
    project.url = server.database(name)
    plugins = '["jobs", "scaffold", "audit"]'
    project.write("forge.toml", f'[project]\nname = "shop"\nplugins = {plugins}\n')
    project.write("schema/product.toml", AUDITED)
    there = {"PYTHONPATH": f"{project.folder}:{site.folder}"}
    for command in ("build", "scaffold", "migrate up", "migrate diff", "migrate up"):
        project.ok(*command.split(), env=there)
    assert "def in_words(entry: Entry)" in project.read("shop/resources/product/audit.py")
    project.write("shop/resources/product/jobs.py", WORKER)
    done = project.python(WRITES, env=there)
    assert done.returncode == 0, done.stderr
    first, ids = done.stdout.splitlines()
    product, gone = ids.split()
    assert first == "forbidden"

    # The worker of `gone` finds nothing to change; that of `product` acts as who enqueued it.
    worker = project.worker(env=there)
    expected = [
        ("create", None, {"title": "tea"}, 7),
        ("update", {"title": "tea"}, {"title": "great tea"}, 7),
    ]
    end = time.monotonic() + 30
    read = READS.replace("RECORD", repr(product))
    while (out := project.python(read, env=there)).stdout != f"{expected}\n[]\n":
        assert time.monotonic() < end, (out.stdout, out.stderr[-700:])
    worker.terminate()
    assert worker.wait(timeout=30) == 0

    shown = project.ok("audit", "show", "products", gone, env=there).splitlines()
    assert [line.split()[2] for line in shown] == ["create", "delete"]
    assert "0 changes older than 365 days dropped" in project.ok("audit", "prune", env=there)
    assert "forge.audit" in project.ok("graph", env=there)
    server.drop(name)


# --- what every plugin keeps


FAULTY = """
import attrs
from forgecore.plugin import Fragment, GeneratedFile, Import, hookimpl

@hookimpl
def forgecore_render(ctx):
    yield GeneratedFile(path="gen/faulty/x.py", template="forgecore_faulty:x.mako", view=VIEW)
"""


@pytest.mark.parametrize(
    ("view", "template", "said"),
    [
        ('list({"a", "b", "c", "d", "e", "f", "g"})', "X = ${view| n,repr}\n", "order of a set"),
        ("1", '"""A."""\n\nimport os\n', "ruff check does not pass"),
        (
            "1",
            '"""A."""\n\n\ndef f(x):  # a function\n    return x\n',
            "mypy --strict does not pass",
        ),
        ("1", '"""A."""\n\nX = 1\n', None),
    ],
)
def test_what_no_plugin_may_do_is_found(site, tmp_path, view, template, said):
    module = site.folder / "forgecore_faulty"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("")
    (module / "plugin.py").write_text(FAULTY.replace("VIEW", view))
    (module / "x.mako").write_text(template)
    info = site.folder / "forgecore_faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forgecore-faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[forgecore]\nfaulty = forgecore_faulty.plugin\n")
    code = (
        "from pathlib import Path; from forgecore.testing import *; "
        f"project = TemporaryProject(Path({str(tmp_path / 'p')!r}), ['faulty']); "
        "project.schema('a', '[resource]\\nname = \"Product\"\\n'); "
        "print('\\n'.join(faults_of(project, 'faulty')))"
    )
    found = site.run("-c", code)

    if said is None:
        assert found.strip() == ""
    else:
        assert said in found
