"""`forgecore scaffold`: files that are written once, and never again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCHEMA = """
[resource]
name = "Product"
[fields]
title = { type = "string" }
[[hooks.after_create]]
kind = "notify_new_product"
[[hooks.after_update]]
kind = "reindex_product"
"""
JOBS = "shop/resources/product/jobs.py"


@pytest.fixture
def shop(project):
    project.write("schema/product.toml", SCHEMA)
    project.write("schema/order_item.toml", '[resource]\nname = "OrderItem"\n')
    project.ok("build")
    return project


def test_only_resources_with_hooks_have_workers(shop):
    said = shop.ok("scaffold")

    assert f"wrote {JOBS}" in said
    assert (shop.folder / JOBS).is_file()
    assert not (shop.folder / "shop/resources/order_item").exists()
    text = shop.read(JOBS)
    assert "from shop.gen.actions.product import NotifyNewProductArgs, ReindexProductArgs" in text
    assert "created a product" in text
    assert "changed a product" in text


def test_a_scaffolded_file_is_never_rewritten(shop):
    shop.ok("scaffold")
    shop.write(JOBS, "# mine\n")

    shop.ok("build")
    for _ in range(2):
        assert f"skipped {JOBS}: it exists" in shop.ok("scaffold")

    assert shop.read(JOBS) == "# mine\n"


def test_diff_lists_what_scaffold_would_write_and_writes_nothing(shop):
    shown = shop.ok("scaffold", "--diff")
    assert not (shop.folder / "shop/resources").exists()

    wrote = [line.removeprefix("wrote ") for line in shop.ok("scaffold").splitlines()]

    assert [
        line[4:].removesuffix(" (fresh)") for line in shown.splitlines() if line.startswith("+++")
    ] == wrote
    assert shop.ok("scaffold", "--diff") == ""
    states = json.loads(shop.ok("scaffold", "--json"))
    assert {"path": JOBS, "state": "fresh"} in states


def test_diff_shows_what_a_fresh_file_looks_like(shop):
    shop.ok("scaffold")
    shop.write(JOBS, shop.read(JOBS).replace("Run after", "Jog after", 1))

    lines = shop.ok("scaffold", "--diff").splitlines()

    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2
    assert "Jog after" in changed[0]


def test_force_overwrites(shop):
    shop.ok("scaffold")
    fresh = shop.read(JOBS)
    shop.write(JOBS, "# mine\n")

    shop.ok("scaffold", "product", "--force")

    assert shop.read(JOBS) == fresh


def test_an_unknown_resource_is_an_error(shop):
    done = shop.run("scaffold", "prodct")

    assert done.returncode == 1
    assert "did you mean `product`" in done.stderr


def test_a_kind_added_later_is_reported_with_the_lines_to_add(shop):
    shop.ok("scaffold")
    assert "no-worker" not in shop.run("build").stderr
    shop.write("schema/product.toml", SCHEMA + '[[hooks.after_delete]]\nkind = "forget_product"\n')

    done = shop.run("build")

    assert done.returncode == 0
    assert "kind forget_product has no worker; add to resources/product/jobs.py:" in done.stderr
    lines = done.stderr.partition("jobs.py:\n")[2]
    text = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    shop.write(JOBS, shop.read(JOBS) + "\n\n" + text.replace("from shop", "from shop") + "\n")
    assert "no-worker" not in shop.run("build").stderr
    assert shop.python("import shop.resources.product.jobs").returncode == 0


def test_a_file_that_is_missing_is_reported_with_the_command(shop):
    assert (
        "kind notify_new_product has no worker: forgecore scaffold product"
        in shop.run("build").stderr
    )


def test_fresh_stubs_pass_the_checkers(shop):
    shop.ok("scaffold")
    tools = Path(sys.executable).parent
    for command in (
        ["ruff", "check", "--isolated", "--select", "ALL", "--ignore", "CPY001,D203,D213,COM812",
         "--config", 'lint.isort.known-first-party=["shop"]', "shop/resources"],
        ["ruff", "format", "--isolated", "--check", "shop/resources"],
        ["mypy", "--strict", "shop/resources"],
    ):  # fmt: skip
        done = subprocess.run(
            [str(tools / command[0]), *command[1:]],
            cwd=shop.folder, env=shop.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
