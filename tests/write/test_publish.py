"""Publishing: the old tree or the new one, nothing of the user's lost."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forgecore.write.manifest import digest_of, read_lock

PRODUCT = """
[resource]
name = "Product"
[fields]
title = { type = "string" }
"""


@pytest.fixture
def shop(project):
    project.write("schema/product.toml", PRODUCT)
    project.ok("build")
    return project


def tree(project) -> dict[str, bytes]:
    return {
        path.relative_to(project.folder).as_posix(): path.read_bytes()
        for path in sorted(project.folder.rglob("*"))
        if path.is_file() and ".forge/" not in path.as_posix() and "__pycache__" not in path.parts
    }


def test_two_builds_are_the_same_bytes_wherever_they_run(shop, tmp_path):
    from conftest import Project

    other = Project(tmp_path / "elsewhere" / "deep")
    other.write("forge.toml", shop.read("forge.toml"))
    other.write("schema/product.toml", PRODUCT)
    other.ok("build", env={"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "HOME": str(tmp_path)})
    before = tree(shop)

    assert "nothing to do" in shop.ok("build")
    assert tree(shop) == before == tree(other)


def test_unchanged_files_keep_their_time(shop):
    path = shop.folder / "shop/gen/models/product.py"
    os.utime(path, (1, 1))
    shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))

    shop.ok("build")

    assert path.stat().st_mtime == 1


def test_the_lock_names_every_file_with_its_hash(shop):
    lock = read_lock(shop.folder / "forge.lock")

    on_disk = {path for path in tree(shop) if path.startswith("shop/gen/")}
    assert set(lock.entries) == on_disk
    for path, entry in lock.entries.items():
        assert entry.digest == digest_of((shop.folder / path).read_bytes())
    assert lock.entries["shop/gen/models/product.py"].owner == "data"
    assert any(line.startswith("formatter ruff ") for line in lock.head)


def test_a_removed_resource_takes_its_files_along(shop):
    shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))
    shop.ok("build")
    (shop.folder / "schema/extra.toml").unlink()

    said = shop.ok("build")

    assert "removed shop/gen/models/extra.py" in said
    assert not [path for path in tree(shop) if "extra" in path]


def test_files_that_are_not_ours_stay(shop):
    shop.write("shop/gen/notes/mine.txt", "mine")
    shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))

    shop.ok("build")

    assert shop.read("shop/gen/notes/mine.txt") == "mine"


@pytest.mark.parametrize("what", ["edited", "orphan", "in the way"])
def test_a_file_changed_by_hand_stops_the_build_and_is_named(shop, what):
    shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))
    path = "shop/gen/models/extra.py"
    if what == "orphan":
        shop.ok("build")
        (shop.folder / "schema/extra.toml").unlink()
    elif what == "edited":
        path = "shop/gen/models/product.py"
    shop.write(path, "# by hand\n")
    before = tree(shop)

    done = shop.run("build")

    assert done.returncode == 1
    assert f"{path}:1:1: error[edited]" in done.stderr
    assert tree(shop) == before
    shop.ok("build", "--force")
    assert "# by hand\n" not in [text.decode() for text in tree(shop).values()]


def test_a_failed_build_writes_nothing(shop):
    before = tree(shop)
    shop.write("schema/extra.toml", "[resource]\nname = 3\n")

    assert shop.run("build").returncode == 1

    (shop.folder / "schema/extra.toml").unlink()
    assert tree(shop) == before


def test_a_failed_first_build_leaves_no_package(project):
    project.write("schema/a.toml", "[resource]\nname = 3\n")

    assert project.run("build").returncode == 1

    assert not (project.folder / "shop").exists()


def test_a_file_that_was_deleted_is_written_again(shop):
    before = tree(shop)
    (shop.folder / "shop/gen/models/product.py").unlink()

    shop.ok("build")

    assert tree(shop) == before


def test_a_lock_in_conflict_is_written_again(shop):
    before = tree(shop)
    text = shop.read("forge.lock")
    shop.write("forge.lock", "<<<<<<< ours\n" + text + "=======\n" + text + ">>>>>>> theirs\n")

    shop.ok("build")

    assert tree(shop) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_stopped_leaves_the_old_tree_or_the_new_one(shop, number):
    old = _gen(shop)
    shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))
    shop.ok("build")
    new = _gen(shop)
    (shop.folder / "schema/extra.toml").unlink()
    shop.ok("build")
    seen = set()
    randomly = random.Random(1)
    for _ in range(25):
        shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))
        child = subprocess.Popen(
            [sys.executable, "-m", "forgecore", "build"],
            cwd=shop.folder,
            env=shop.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(randomly.uniform(0.3, 0.9))
        child.send_signal(number)
        child.wait()
        now = _gen(shop)
        assert now in (old, new)
        seen.add(now == new)
        # Whatever was left, the next build takes it from there.
        (shop.folder / "schema/extra.toml").unlink()
        shop.ok("build")
        assert _gen(shop) == old
        assert not [path for path in tree(shop) if ".next" in path or ".forge-stage" in path]


def _gen(project) -> dict[str, bytes]:
    return {path: text for path, text in tree(project).items() if path.startswith("shop/gen/")}


def test_the_package_may_be_below_src_and_have_dots(project):
    project.write("forge.toml", '[project]\npackage = "a.b"\nplugins = ["jobs"]\n')
    (project.folder / "src").mkdir()
    project.write("schema/product.toml", PRODUCT)

    project.ok("build")

    assert (project.folder / "src/a/b/gen/models/product.py").is_file()
    done = project.python("import sys; sys.path.insert(0, 'src'); import a.b.gen.actions.product")
    assert done.returncode == 0, done.stderr


def test_the_projects_ruff_configuration_is_followed(shop):
    shop.write("pyproject.toml", "[tool.ruff]\nline-length = 60\n")

    shop.ok("build")

    lines = shop.read("shop/gen/actions/product.py").splitlines()
    assert "    def update(" in lines
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ruff")), "format", "--check", "shop"],
        cwd=shop.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_lock_that_was_cut_off_is_not_believed(shop):
    lock = shop.read("forge.lock")
    before = tree(shop)
    for half in ("", lock[:40]):
        shop.write("forge.lock.next", half)
        shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))
        shop.ok("build")
        (shop.folder / "schema/extra.toml").unlink()
        shop.ok("build")
        assert tree(shop) == before


def test_links_and_empty_folders_of_the_user_stay(shop, tmp_path):
    (tmp_path / "far").mkdir()
    (shop.folder / "shop/gen/link").symlink_to(tmp_path / "far")
    (shop.folder / "shop/gen/empty").mkdir()
    shop.write("schema/extra.toml", PRODUCT.replace("Product", "Extra"))

    shop.ok("build")

    assert (shop.folder / "shop/gen/link").is_symlink()
    assert (shop.folder / "shop/gen/empty").is_dir()


def test_a_gen_that_is_a_link_is_left_alone(project, tmp_path):
    project.write("schema/product.toml", PRODUCT)
    (tmp_path / "far").mkdir()
    (project.folder / "shop").mkdir()
    (project.folder / "shop/gen").symlink_to(tmp_path / "far")

    done = project.run("build")

    assert done.returncode == 1
    assert "shop/gen is no folder of its own" in done.stderr
    assert list((tmp_path / "far").iterdir()) == []


def test_names_are_renamed_in_code_and_never_in_text(project):
    project.write(
        "schema/odd.toml",
        '[resource]\nname = "Odd"\n[fields]\nlist = { type = "array", items = "int" }\n'
        'int = { type = "int" }\nsaid = { type = "string", default = "a list of int" }\n'
        'what = { type = "enum", values = ["list", "Literal"], default = "list" }\n',
    )

    project.ok("build")

    text = project.read("shop/gen/models/odd.py")
    assert 'said: str = "a list of int"' in text
    assert 'OddWhat = Literal["list", "Literal"]' in text


def test_a_package_of_another_name_takes_the_old_one_along(shop):
    shop.write("forge.toml", '[project]\npackage = "store"\nplugins = ["jobs"]\n')
    shop.write("shop/mine.py", "")

    said = shop.ok("build")

    assert "removed shop/gen/models/product.py" in said
    assert not (shop.folder / "shop/gen").exists()
    assert (shop.folder / "shop/mine.py").exists()
    assert "nothing to do" in shop.ok("build")


def test_a_package_outside_of_any_project_is_said(tmp_path):
    from conftest import Project

    done = Project(tmp_path).run("build", env={"FORGE_PROJECT_DIR": str(tmp_path)})

    assert done.returncode == 1
    assert "error[no-project]" in done.stderr


def test_a_line_of_the_lock_removes_nothing_of_others(shop, tmp_path):
    (tmp_path / "far").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "far" / name).write_text("mine")
    (shop.folder / "link").symlink_to(tmp_path / "far")
    digest = digest_of(b"mine")
    lock = shop.read("forge.lock")
    lines = [f"{tmp_path}/far/a.txt gen data - {digest}", f"link/b.txt gen data - {digest}"]
    shop.write("forge.lock", lock + "\n".join(lines) + "\n")
    shop.write("schema/product.toml", PRODUCT.replace("string", "int"))
    shop.run("build")
    shop.run("build", "--force")

    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["a.txt", "b.txt"]
    assert shop.read("forge.lock").count("\n") == lock.count("\n")
