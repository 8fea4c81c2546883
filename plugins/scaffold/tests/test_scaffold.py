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


# --- --merge


THIRD = SCHEMA + '[[hooks.after_delete]]\nkind = "forget_product"\n'


def edited(shop):
    """Scaffold, and fill a stub."""
    shop.ok("scaffold")
    text = shop.read(JOBS)
    shop.write(JOBS, text.replace('    """Run after', '    print("mine")\n    """Run after', 1))


def test_a_new_kind_comes_into_a_file_that_was_changed(shop):
    edited(shop)
    shop.write("schema/product.toml", THIRD)
    assert "kind forget_product has no worker" in shop.run("build").stderr
    done = shop.run("scaffold", "--merge")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"merged {JOBS}" in done.stdout
    text = shop.read(JOBS)
    assert 'print("mine")' in text
    assert "def forget_product(" in text
    assert "no worker" not in shop.run("build").stderr
    assert f"nothing new for {JOBS}" in shop.ok("scaffold", "--merge")
    assert shop.read(JOBS) == text


def test_where_both_changed_somebody_must_end_it(shop):
    shop.ok("scaffold")
    text = shop.read(JOBS)
    line = next(one for one in text.splitlines() if one.startswith("from shop.gen"))
    shop.write(JOBS, text.replace(line, line + "  # noqa"))
    shop.write("schema/product.toml", THIRD)
    shop.run("build")
    done = shop.run("scaffold", "--merge")

    assert done.returncode == 1
    assert f"conflict in {JOBS}: end it by hand" in done.stdout
    text = shop.read(JOBS)
    assert "<<<<<<< yours" in text
    assert "||||||| pristine" in text
    assert ">>>>>>> fresh" in text
    again = shop.run("scaffold", "--merge")
    assert again.returncode == 1
    assert shop.read(JOBS) == text

    kept = text.split("=======\n")[1].split(">>>>>>>")[0]
    head, _, rest = text.partition("<<<<<<<")
    shop.write(JOBS, head + kept + rest.partition(">>>>>>> fresh\n")[2])
    assert f"nothing new for {JOBS}" in shop.ok("scaffold", "--merge")


def test_what_nobody_remembers_is_not_merged(shop):
    import shutil

    edited(shop)
    shutil.rmtree(shop.folder / ".scaffolded")
    shop.write("schema/product.toml", THIRD)
    shop.run("build")
    before = shop.read(JOBS)
    done = shop.run("scaffold", "--merge", "--json")

    assert done.returncode == 1
    assert {"path": JOBS, "state": "unknown"} in json.loads(done.stdout)
    assert shop.read(JOBS) == before


def test_a_file_that_is_missing_is_written_by_a_merge(shop):
    assert f"wrote {JOBS}" in shop.ok("scaffold", "--merge")
    assert shop.run("scaffold", "--merge", "--force").returncode == 2
