"""A build that goes by the last one gives what a build of everything gives, byte for byte."""

import hashlib
import json
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import Project, copy_project
from forgecore.cli.app import main

Resource = dict[str, object]


class Edits:
    """A schema that is edited at random, and can always be written as it is."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = iter(range(1, 10_000))
        self.resources: dict[str, Resource] = {}
        self.plugins = ["jobs", "scaffold"]
        for _ in range(4):
            self.add_resource()

    def step(self) -> str:
        edit = self.random.choice(
            [
                self.add_resource,
                self.remove_resource,
                self.rename_resource,
                self.move_file,
                self.add_field,
                self.add_field,
                self.remove_field,
                self.change_limit,
                self.change_limit,
                self.toggle,
                self.toggle,
                self.relate,
                self.relate,
                self.relate,
                self.unrelate,
                self.hook,
                self.unhook,
                self.plugin,
            ]
        )
        edit()
        return edit.__name__

    def any(self) -> Resource:
        return self.resources[self.random.choice(sorted(self.resources))]

    def add_resource(self) -> None:
        number = next(self.numbers)
        self.resources[f"r{number}"] = {
            "name": f"Thing{number}",
            "flags": {"tenant_scoped": True},
            "fields": {"title": 10},
            "relations": {},
            "hooks": [],
        }

    def remove_resource(self) -> None:
        if len(self.resources) > 2:
            del self.resources[self.random.choice(sorted(self.resources))]

    def rename_resource(self) -> None:
        self.any()["name"] = f"Named{next(self.numbers)}"

    def move_file(self) -> None:
        old = self.random.choice(sorted(self.resources))
        self.resources[f"below/m{next(self.numbers)}"] = self.resources.pop(old)

    def add_field(self) -> None:
        self.any()["fields"][f"field_{next(self.numbers)}"] = self.random.randint(1, 99)

    def remove_field(self) -> None:
        fields = self.any()["fields"]
        if len(fields) > 1:
            fields.pop(self.random.choice(sorted(fields)))

    def change_limit(self) -> None:
        fields = self.any()["fields"]
        fields[self.random.choice(sorted(fields))] = self.random.randint(1, 99)

    def toggle(self) -> None:
        flags = self.any()["flags"]
        name = self.random.choice(["soft_delete"] * 4 + ["timestamps"] * 4 + ["tenant_scoped"])
        flags[name] = not flags.get(name)

    def relate(self) -> None:
        how = self.random.choice(["restrict", "restrict", "cascade", "set_null"])
        self.any()["relations"][f"to_{next(self.numbers)}"] = (self.any(), how)

    def unrelate(self) -> None:
        self.any()["relations"].clear()

    def hook(self) -> None:
        event = self.random.choice(["after_create", "after_update", "after_delete"])
        self.any()["hooks"].append((event, f"kind_{next(self.numbers)}"))

    def unhook(self) -> None:
        self.any()["hooks"].clear()

    def plugin(self) -> None:
        self.plugins = ["jobs", "scaffold"] + ["otel"] * ("otel" not in self.plugins)

    def write(self, project: Project) -> None:
        project.write("forge.toml", f'[project]\nname = "shop"\nplugins = {self.plugins!r}\n')
        folder = project.folder / "schema"
        for path in folder.rglob("*.toml") if folder.is_dir() else ():
            if path.relative_to(folder).with_suffix("").as_posix() not in self.resources:
                path.unlink()
        for name, one in self.resources.items():
            text = written(one)
            path = folder / f"{name}.toml"
            if not path.exists() or path.read_text() != text:
                project.write(f"schema/{name}.toml", text)


def written(one: Resource) -> str:
    lines = ["[resource]", f'name = "{one["name"]}"']
    lines += [f"{name} = {str(bool(is_so)).lower()}" for name, is_so in one["flags"].items()]
    lines.append("[fields]")
    lines += [
        f'{name} = {{ type = "string", required = true, max_length = {limit}, sortable = true }}'
        for name, limit in one["fields"].items()
    ]
    for name, (target, how) in one["relations"].items():
        # What is gone is referred to nevertheless: that is a mistake, until it is taken back.
        text = f'belongs_to = "{target["name"]}"'
        lines += [f"[relations.{name}]", text, f'on_delete = "{how}"']
    for event, kind in one["hooks"]:
        lines += [f"[[hooks.{event}]]", f'kind = "{kind}"']
    return "\n".join(lines) + "\n"


def tree(project: Project) -> dict[str, bytes]:
    files = [p for p in (project.folder / "shop" / "gen").rglob("*") if p.suffix in {".py", ".sql"}]
    files.append(project.folder / "forge.lock")
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", range(8))
def test_random_edits_give_what_a_build_of_everything_gives(
    project, tmp_path, seed, capsys, monkeypatch
):
    edits = Edits(seed)
    was_sound = 0
    for number in range(16):
        edit = edits.step()
        edits.write(project)
        monkeypatch.setenv("FORGE_PROJECT_DIR", str(project.folder))
        status = main(["build"])
        errors = capsys.readouterr().err
        # All that a build reads, and nothing that one wrote.
        whole = Project(tmp_path / f"whole{number}" / "shop")
        edits.write(whole)
        monkeypatch.setenv("FORGE_PROJECT_DIR", str(whole.folder))
        assert status == main(["build"]), (edit, errors)
        assert errors == capsys.readouterr().err, edit
        if status == 0:
            was_sound += 1
            assert tree(project) == tree(whole), edit
    assert was_sound > 3


# --- plugins of which there are two versions


PLUGIN = """
from attrs import frozen
from forgecore.plugin import Fragment, GeneratedFile, each_resource, hookimpl


@frozen
class View:
    name: str
    others: int


@hookimpl
@each_resource
def forgecore_render(ctx):
    print("asked for", ctx.resource.name)
    yield GeneratedFile(
        path=f"gen/noted/{ctx.resource.snake}.py",
        resource=ctx.resource.name,
        template="noted:noted.mako",
        view=View(ctx.resource.name, len(ctx.resources)),
    )


@hookimpl
def forgecore_fragments(ctx):
    # Given for all resources in one call: what comes to one may depend on any other.
    for one in ctx.resources:
        yield Fragment(
            slot="actions.module",
            resource=one.name,
            template="noted:count.mako",
            view=View(one.name, len(ctx.resources)),
        )
"""


@pytest.fixture
def noted(project: Project) -> Project:
    for name, text in (
        ("noted/__init__.py", PLUGIN),
        ("noted/noted.mako", "# ${view.name}\nSEEN = ${view.others}\n"),
        ("noted/count.mako", "OTHERS = ${view.others}\n"),
        ("noted-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: noted\nVersion: 1.0\n"),
        ("noted-1.0.dist-info/entry_points.txt", "[forgecore]\nnoted = noted\n"),
    ):
        project.write(f"site/{name}", text)
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["noted"]\n')
    for name, more in (
        ("Product", '[relations.of]\nbelongs_to = "Category"\n'),
        ("Category", ""),
        ("Tag", ""),
    ):
        project.write(f"schema/{name.lower()}.toml", schema(name, more=more))
    return project


def schema(name: str, limit: int = 10, more: str = "") -> str:
    field = f'title = {{ type = "string", required = true, max_length = {limit} }}'
    return f'[resource]\nname = "{name}"\n[fields]\n{field}\n{more}'


def asked(project: Project, *options: str) -> tuple[list[str], str]:
    there = {"PYTHONPATH": f"{project.folder}:{project.folder}/site"}
    done = project.run("build", *options, env=there)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    names = {line.split()[-1] for line in said.splitlines() if "asked for" in line}
    return sorted(names), said


def test_only_what_is_changed_and_what_is_related_to_it_is_asked(noted):
    source = noted.folder / "site" / "noted" / "__init__.py"
    source.write_text(PLUGIN.partition("@hookimpl\ndef forgecore_fragments")[0])
    assert asked(noted)[0] == ["Category", "Product", "Tag"]

    noted.write("schema/tag.toml", schema("Tag", 11))
    assert asked(noted)[0] == ["Tag"]
    noted.write("schema/category.toml", schema("Category", 11))
    assert asked(noted)[0] == ["Category", "Product"]

    path = noted.folder / "shop/gen/noted/tag.py"
    path.unlink()
    assert asked(noted)[0] == ["Tag"]
    assert path.exists()

    config = noted.read("forge.toml")
    noted.write("forge.toml", config + "[database]\npool = 3\n")
    assert asked(noted)[0] == ["Category", "Product", "Tag"]

    # What one call gives for every resource brings every resource back.
    source.write_text(PLUGIN)
    asked(noted)
    noted.write("schema/one_more.toml", schema("OneMore"))
    assert asked(noted)[0] == ["Category", "OneMore", "Product", "Tag"]
    assert "OTHERS = 4" in noted.read("shop/gen/actions/tag.py")


def test_a_slot_that_one_resource_fills_counts_for_all(noted):
    noted.write(
        "site/noted/__init__.py",
        """
from forgecore.plugin import Fragment, each_resource, hookimpl


@hookimpl
@each_resource
def forgecore_fragments(ctx):
    name = ctx.resource.name
    yield Fragment(
        slot="actions.module", resource=name, template="noted:seen.mako", when="actions.delete.ctes"
    )
    if any(field.name == "special" for field in ctx.resource.fields):
        yield Fragment(slot="actions.delete.ctes", resource=name, template="noted:arm.mako")
""",
    )
    noted.write("site/noted/seen.mako", "SEEN = 1\n")
    noted.write("site/noted/arm.mako", "${arm} AS (SELECT 1)\n")
    asked(noted)
    assert "SEEN" not in noted.read("shop/gen/actions/category.py")

    noted.write("schema/tag.toml", schema("Tag", 10, 'special = { type = "int" }\n'))
    asked(noted)
    assert "SEEN" in noted.read("shop/gen/actions/category.py")

    noted.write("schema/tag.toml", schema("Tag"))
    asked(noted)
    assert "SEEN" not in noted.read("shop/gen/actions/category.py")


def test_another_version_of_a_plugin_is_another_build(noted, tmp_path):
    asked(noted)
    first = tree(noted)
    template = noted.folder / "site" / "noted" / "noted.mako"
    old = template.read_text()

    template.write_text(old.replace("SEEN", "SEEN_BY_TWO"))
    _, said = asked(noted, "--explain")
    assert "wrote shop/gen/noted/tag.py: plugin noted" in said
    assert "SEEN_BY_TWO" in noted.read("shop/gen/noted/tag.py")
    copy_project(noted.folder, tmp_path / "whole")
    whole = Project(tmp_path / "whole")
    asked(whole)
    assert tree(whole) == tree(noted)

    template.write_text(old)
    asked(noted)
    assert tree(noted) == first


def test_what_changed_is_said_of_each_file(noted):
    _, said = asked(noted, "--explain")
    assert "wrote shop/gen/models/tag.py: no build before this one is remembered" in said

    noted.write("schema/category.toml", schema("Category", 12, "[[index]]\nfields = ['title']\n"))
    _, said = asked(noted, "--explain")
    assert "wrote shop/gen/schema.sql: schema/category.toml\n" in said
    assert "wrote shop/gen/validation/category.py: schema/category.toml\n" in said
    assert "tag" not in said.partition("wrote")[2]

    (noted.folder / "shop/gen/models/tag.py").unlink()
    _, said = asked(noted, "--explain", "--json")
    told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert told["because"] == {"shop/gen/models/tag.py": "it was not as the last build left it"}

    (noted.folder / "schema/tag.toml").unlink()
    noted.write("forge.toml", noted.read("forge.toml") + "[database]\npool = 3\n")
    _, said = asked(noted, "--explain")
    assert "wrote shop/gen/schema.sql: schema/tag.toml, forge.toml\n" in said


def test_a_plugin_that_is_asked_for_one_resource_gives_what_is_of_it(noted):
    source = noted.folder / "site" / "noted" / "__init__.py"
    source.write_text(PLUGIN.replace("resource=ctx.resource.name", 'resource="Tag"'))
    there = {"PYTHONPATH": f"{noted.folder}:{noted.folder}/site"}
    done = noted.run("build", env=there)
    assert done.returncode == 1
    assert "plugin `noted` (noted 1.0): forgecore_render was asked for Category" in done.stderr

    source.write_text(PLUGIN.replace("forgecore_render(ctx)", "forgecore_graph(ctx)"))
    done = noted.run("build", env=there)
    assert "forgecore_graph is not asked for each resource" in done.stderr

    source.write_text(
        PLUGIN.replace(
            "def forgecore_fragments(ctx):", "def forgecore_fragments(ctx):\n    ctx.resource"
        )
    )
    done = noted.run("build", env=there)
    assert "ctx.resource is for hookimpls under @each_resource" in done.stderr


# --- what is remembered


def test_what_the_schema_became_is_remembered(project, build, monkeypatch):
    from forgecore.schema.structure import _Builder

    hook = '[[hooks.after_create]]\nkind = "praise_NAME"\ntimeout = "3s"\nunique = { by = [] }\n'
    for name in ("Tag", "Product", "Label"):
        project.write(
            f"schema/{name.lower()}.toml", schema(name, more=hook.replace("NAME", name.lower()))
        )
    build()
    made: list[str] = []
    resource = _Builder.resource

    def counted(self: _Builder, document: object) -> object:
        made.append(document.source.path)
        return resource(self, document)

    monkeypatch.setattr(_Builder, "resource", counted)
    project.write("schema/tag.toml", schema("Tag", 11))
    assert build()[0] == 0
    assert made == ["schema/tag.toml"]
    # What came from the file is what stood in it.
    assert "interval '3 seconds'" in project.read("shop/gen/actions/label.py")
    (project.folder / "shop/gen/actions/label.py").unlink()
    assert build()[0] == 0
    assert "interval '3 seconds'" in project.read("shop/gen/actions/label.py")
    assert build("build", "--check")[0] == 0


def test_a_memory_brings_in_no_code(project, build):
    project.write("schema/tag.toml", schema("Tag"))
    build()
    victim = project.folder / "touched"

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(victim),))

    # Whoever puts it there can make its sum as well.
    stored(project).write_bytes(summed(pickle.dumps((3, Bad()))))
    project.write("schema/tag.toml", schema("Tag", 11))

    assert build()[0] == 0
    assert not victim.exists()
    assert "max_length=11" in project.read("shop/gen/validation/tag.py")


def test_a_memory_changes_no_class(project, build):
    """A pickle that sets the state of a class, instead of an object's, sets attributes of it."""
    from forgecore.memory import REBUILD, Settled

    project.write("schema/tag.toml", schema("Tag"))
    build()
    # The state of an object that is no state, and attributes: BUILD sets them one by one.
    state = b"(N(dX\x05\x00\x00\x00helloK*utb."
    for what in (b"cforgecore.memory\nREBUILD\n", b"cforgecore.memory\nSettled\n"):
        stored(project).write_bytes(summed(b"\x80\x04" + what + state))
        project.write("schema/tag.toml", schema("Tag", 12))
        assert build()[0] == 0
        project.write("schema/tag.toml", schema("Tag", 13))
        assert build()[0] == 0
    assert not hasattr(REBUILD, "hello")
    assert not hasattr(Settled, "hello")


def test_a_memory_that_is_damaged_is_none(project, build):
    for name in ("Tag", "Product"):
        project.write(f"schema/{name.lower()}.toml", schema(name))
    build()
    good = stored(project).read_bytes()
    randomly = random.Random(3)
    for number in range(40):
        data = bytearray(good)
        data[randomly.randrange(len(data))] ^= 1 << randomly.randrange(8)
        stored(project).write_bytes(
            data[: randomly.randrange(len(data))] if number % 4 == 0 else data
        )
        project.write("schema/tag.toml", schema("Tag", number + 20))
        assert build()[0] == 0
        assert f"max_length={number + 20}" in project.read("shop/gen/validation/tag.py")
        assert "title: str" in project.read("shop/gen/models/product.py")


def stored(project) -> Path:
    return project.folder / ".forge" / "cache" / "memory"


def summed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + data


def while_it_waits(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something just before the next build gets the lock of its project."""
    from forgecore import build as module

    wait = module.locked

    @contextmanager
    def slow(folder: Path) -> Iterator[None]:
        monkeypatch.setattr(module, "locked", wait)
        act()
        with wait(folder):
            yield

    monkeypatch.setattr(module, "locked", slow)


def test_a_check_goes_by_nothing_that_is_remembered(project, build):
    """Not even by what the formatter made of which text."""
    project.write("schema/tag.toml", schema("Tag"))
    build()
    path = "shop/gen/models/tag.py"
    good = hashlib.sha256(project.read(path).encode()).hexdigest()
    project.write(path, project.read(path) + "# by hand\n")
    bad = hashlib.sha256(project.read(path).encode()).hexdigest()
    cache = ".forge/cache/format.json"
    assert good in project.read(cache)
    project.write(cache, project.read(cache).replace(good, bad))

    status, out, _ = build("build", "--check")
    assert status == 1
    assert "edited: shop/gen/models/tag.py was changed by hand" in out


def test_a_build_that_published_meanwhile_is_not_mixed_in(project, build, monkeypatch):
    """Between the look at the tree and the write, another build may write it."""
    for name in ("Tag", "Product"):
        project.write(f"schema/{name.lower()}.toml", schema(name))
    build()
    good = tree(project)

    def another() -> None:
        # It builds what is not saved yet, and what it built is taken back.
        project.write("schema/product.toml", schema("Product", 30))
        main(["build"])
        project.write("schema/product.toml", schema("Product"))

    project.write("schema/tag.toml", schema("Tag", 20))
    while_it_waits(monkeypatch, another)
    build()
    project.write("schema/tag.toml", schema("Tag"))
    build()

    assert tree(project) == good


def test_what_is_saved_while_a_build_waits_is_built(project, build, monkeypatch):
    project.write("schema/tag.toml", schema("Tag"))
    build()

    def another() -> None:
        project.write("schema/tag.toml", schema("Tag", 31))
        main(["build"])

    while_it_waits(monkeypatch, another)
    project.write("schema/tag.toml", schema("Tag", 30))
    build()
    assert "max_length=31" in project.read("shop/gen/validation/tag.py")
    assert build("build", "--check")[0] == 0


def test_the_slot_of_a_settled_resource_s_fragment_goes(noted):
    """What a build of everything refuses, one that goes by the last refuses as well."""
    noted.write(
        "site/noted/__init__.py",
        """
from forgecore.plugin import Fragment, GeneratedFile, Slot, each_resource, hookimpl


@hookimpl
@each_resource
def forgecore_render(ctx):
    one = ctx.resource
    has = any(field.name == "special" for field in one.fields)
    slots = (Slot(name="noted.x", language="python", doc="d"),) if has else ()
    yield GeneratedFile(
        path=f"gen/noted/{one.snake}.py", resource=one.name, view=1, slots=slots,
        template="noted:slot.mako" if has else "noted:plain.mako",
    )


@hookimpl
@each_resource
def forgecore_fragments(ctx):
    if ctx.resource.name == "Category":
        yield Fragment(
            slot="noted.x", resource="Category", template="noted:plain.mako",
            unless="actions.module",
        )
""",
    )
    noted.write("site/noted/slot.mako", '<%slot name="noted.x"/>\n')
    noted.write("site/noted/plain.mako", "X = 1\n")
    noted.write("schema/tag.toml", schema("Tag", 10, 'special = { type = "int" }\n'))
    asked(noted)
    noted.write("schema/tag.toml", schema("Tag"))
    there = {"PYTHONPATH": f"{noted.folder}:{noted.folder}/site"}
    done = noted.run("build", env=there)

    assert done.returncode == 1
    assert "nobody declares the slot `noted.x`" in done.stderr


@pytest.mark.parametrize("name", ["ruff.toml", "pyproject.toml"])
def test_settings_that_settings_extend_are_an_input(project, build, name):
    text = 'extend = "base.toml"\n'
    project.write(name, text if name == "ruff.toml" else f"[tool.ruff]\n{text}")
    project.write("base.toml", "line-length = 100\n")
    project.write("schema/tag.toml", schema("Tag"))
    build()
    project.write("base.toml", "line-length = 40\n")

    assert build("build", "--check")[0] == 1
    assert "wrote shop/gen/actions/tag.py" in build()[1]
    assert build("build", "--check")[0] == 0


def test_an_edit_by_hand_is_found(project, build):
    for name in ("Tag", "Product"):
        project.write(f"schema/{name.lower()}.toml", schema(name))
    build()
    project.write("shop/gen/models/product.py", project.read("shop/gen/models/product.py") + "#\n")
    project.write("schema/tag.toml", schema("Tag", 20))

    status, _, errors = build()
    assert status == 1
    assert "shop/gen/models/product.py was changed by hand" in errors


# --- watch


@pytest.fixture
def watched(project: Project) -> Iterator[Project]:
    project.write("schema/tag.toml", schema("Tag"))
    process = project.start(sys.executable, "-m", "forgecore", "build", "--watch")
    yield project
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert "Traceback" not in project.log()


def eventually(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_saved_is_built(watched):
    rules = watched.folder / "shop/gen/validation/tag.py"
    eventually(rules.exists)

    watched.write("schema/tag.toml", schema("Tag", 17))
    eventually(lambda: "max_length=17" in rules.read_text())

    watched.write("schema/tag.toml", schema("Tag", 18).replace('"string"', '"strnig"'))
    eventually(lambda: "did you mean `string`" in watched.log())
    watched.write("schema/product.toml", schema("Product"))
    watched.write("schema/tag.toml", schema("Tag", 19))
    eventually(lambda: "max_length=19" in rules.read_text())
    eventually((watched.folder / "shop/gen/models/product.py").exists)

    (watched.folder / "shop/gen/models/product.py").unlink()
    eventually((watched.folder / "shop/gen/models/product.py").exists)
    # An editor's own files come and go.
    for number in range(200):
        watched.write(f"schema/{number}.tmp", "")
        (watched.folder / f"schema/{number}.tmp").unlink()
    config = watched.read("forge.toml")
    (watched.folder / "forge.toml").unlink()
    time.sleep(1.2)
    watched.write("forge.toml", config)

    watched.write("forge.toml", '[project]\nname = "shop"\npackage = "store"\nplugins = []\n')
    eventually((watched.folder / "store/gen/models/tag.py").exists)
    assert "beginning anew" in watched.log()
    watched.write("schema/tag.toml", schema("Tag", 20))
    eventually(
        lambda: "max_length=20" in (watched.folder / "store/gen/validation/tag.py").read_text()
    )


def test_watch_does_not_go_with_looking(build):
    assert build("build", "--watch", "--check")[0] == 2


LOST = """
import os, signal, sys, weakref
from forgecore.cli import watching
from forgecore.cli.app import main

class Thing:
    pass

def interrupt(_):
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(100_000))

def build(*arguments):
    thing = Thing()
    watched = weakref.ref(thing, interrupt)
    del thing

watching._build = build
sys.exit(main(["build", "--watch"]))
"""


def test_ctrl_c_ends_it_even_where_an_exception_is_thrown_away(project):
    project.write("schema/tag.toml", schema("Tag"))
    done = project.python(LOST, timeout=20)

    assert done.returncode == 130
    # What Python says of an exception in such a callback.
    assert "Exception ignored in" in done.stderr
