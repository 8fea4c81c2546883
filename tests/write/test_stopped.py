"""Stopped at every write, by Ctrl-C or for good: the old files or the new ones, and a way on."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Project
from forgecore.cli.app import main

PRODUCT = (
    '[resource]\nname = "Product"\n[fields]\ntitle = { type = "string" }\n'
    '[[hooks.after_create]]\nkind = "notify_product"\n'
)
MORE = PRODUCT.replace("Product", "Extra").replace("notify_product", "notify_extra")
WRITES = frozenset(
    {
        "ctypes.dlsym",  # before the exchange of two folders
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "shutil.rmtree",
        "subprocess.Popen",
    }
)


class Stop:
    """An audit hook that ends a process at the n-th write below a folder."""

    def __init__(self, folder: Path, number: int, end: Callable[[], None]) -> None:
        self.folder = str(folder)
        self.left = number
        self.end = end

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            is_write = bool(flags & (os.O_WRONLY | os.O_RDWR)) and self.folder in str(path)
        else:
            is_write = event in WRITES
        if is_write:
            self.left -= 1
            if self.left == 0:
                self.end()


def interrupt() -> None:
    raise KeyboardInterrupt


def die() -> None:
    os._exit(9)


def stopped(project: Project, number: int, end: Callable[[], None], *arguments: str) -> int:
    """Run a command in a child that is stopped at its n-th write; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.environ["FORGE_PROJECT_DIR"] = str(project.folder)
            log = os.open(project.folder / "stopped.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            sys.addaudithook(Stop(project.folder, number, end))
            status = main(list(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def every_stop(
    project: Project, end: Callable[[], None], *arguments: str
) -> Iterator[tuple[int, int]]:
    """Stop a command at its first write, its second, and so on, until it comes to its end."""
    for number in range(1, 400):
        status = stopped(project, number, end, *arguments)
        yield number, status
        if status == 0:
            return
    raise AssertionError("it never came to its end")


def gen(project: Project) -> dict[str, bytes]:
    folder = project.folder / "shop" / "gen"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in {".py", ".sql"}
    }


def leftovers(project: Project) -> list[str]:
    found = [path.name for path in project.folder.rglob("*")]
    marks = (".next", ".half", ".forge-stage", ".gen.new", ".gen.old", ".new")
    return [name for name in found if any(mark in name for mark in marks)]


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))
    project.write("schema/product.toml", PRODUCT)
    assert main(["build"]) == 0
    return project


@pytest.mark.parametrize("end", [interrupt, die])
def test_a_build(shop, end, capsys):
    old, old_lock = gen(shop), shop.read("forge.lock")
    shop.write("schema/extra.toml", MORE)
    assert main(["build"]) == 0
    new, new_lock = gen(shop), shop.read("forge.lock")
    (shop.folder / "schema" / "extra.toml").unlink()
    assert main(["build"]) == 0
    seen: set[bool] = set()
    count = 0
    shop.write("schema/extra.toml", MORE)
    for number, status in every_stop(shop, end, "build"):
        count = number
        said = shop.read("stopped.log")
        now = gen(shop)
        assert now in (old, new), (number, said)
        assert status in {0, 130 if end is interrupt else 9}, (number, status, said)
        assert "Traceback" not in said, (number, said)
        seen.add(now == new)
        # Whatever was left, the next build takes it from there.
        assert main(["build"]) == 0, (number, capsys.readouterr().err)
        assert (gen(shop), shop.read("forge.lock")) == (new, new_lock), number
        assert leftovers(shop) == [], number
        assert main(["build", "--check"]) == 0, number
        (shop.folder / "schema" / "extra.toml").unlink()
        assert main(["build"]) == 0
        assert (gen(shop), shop.read("forge.lock")) == (old, old_lock), number
        shop.write("schema/extra.toml", MORE)
    assert seen == {True, False}
    assert count > 20


@pytest.mark.parametrize("end", [interrupt, die])
@pytest.mark.parametrize("option", [(), ("--merge",)])
def test_a_scaffold(shop, end, option):
    """A file of the user is as it was, or as it is to be; never a part of either."""
    path = shop.folder / "shop/resources/product/jobs.py"
    old = None
    if option:
        assert main(["scaffold"]) == 0
        old = path.read_text().replace("Workers of Product.", "Mine.")
        path.write_text(old)
        changed = PRODUCT + '[[hooks.after_update]]\nkind = "follow_product"\n'
        shop.write("schema/product.toml", changed)
        assert main(["build"]) == 0
    before = {p: p.read_bytes() for p in shop.folder.rglob("*") if p.is_file()}
    seen: set[str | None] = set()
    for _, status in every_stop(shop, end, "scaffold", *option):
        seen.add(path.read_text() if path.exists() else None)
        assert status in {0, 130 if end is interrupt else 9}
        if status:
            assert main(["scaffold", *option]) == 0
            now = path.read_text()
            assert "def notify_product" in now
            assert not option or ("Mine." in now and "def follow_product" in now)
            shop.write("schema/product.toml", shop.read("schema/product.toml") + "\n")
            assert main(["build"]) == 0
            assert leftovers(shop) == []
        for one in [p for p in shop.folder.rglob("*") if p.is_file() and p not in before]:
            one.unlink()
        for one, content in before.items():
            one.write_bytes(content)
    assert len(seen) == 2
    assert old in seen


def test_a_disk_that_is_full(shop):
    """The build says so, with the place, and the old tree stands."""
    old, lock = gen(shop), shop.read("forge.lock")
    shop.write("schema/extra.toml", MORE)
    code = (
        "import resource, sys; from forgecore.cli.app import main; import forgecore.cli.building;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST)); sys.exit(main(['build']))"
    )
    for limit in (10, 600, 3000):
        done = shop.python(code.replace("MOST", str(limit)))
        assert done.returncode == 3, (limit, done.stderr)
        assert "error: [Errno 27] File too large" in done.stderr
        assert (gen(shop), shop.read("forge.lock")) == (old, lock)
    assert main(["build"]) == 0
    assert leftovers(shop) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace(" gen ", " gem "), "lines that cannot be read, written by"),
        (lambda text: text.encode().hex(), "forge.lock has 1 lines that cannot be read"),
        (
            lambda text: text.replace("tool forgecore 0", "tool forgecore 9").replace(" - ", " "),
            "written by forgecore 9",
        ),
    ],
)
def test_a_lock_that_is_damaged_or_of_another_version(shop, damage, said, capsys):
    lock = shop.read("forge.lock")
    shop.write("forge.lock", damage(lock))
    shop.write("schema/product.toml", PRODUCT.replace('"string"', '"int"'))
    before = gen(shop)

    assert main(["build"]) == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert "take it from git, or build with --force" in errors
    assert gen(shop) == before
    assert main(["build", "--force"]) == 0
    assert len(shop.read("forge.lock").splitlines()) == len(lock.splitlines())
