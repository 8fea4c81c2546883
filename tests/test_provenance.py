"""From a generated line to its template, its plugin and its key of the schema, and back."""

import ast
import json
import re

import pytest

from conftest import ROOT, copy_project
from forgecore.build import make
from forgecore.cli.project import builtin
from forgecore.provenance import lines_of
from forgecore.render.align import lines_before

SCHEMA = """
[resource]
name = "Product"

[fields]
title = { type = "string", required = true, max_length = 20 }
a_rather_long_name_of_a_field = { type = "enum", values = ["draft", "published", "archived"] }

[relations.parent]
belongs_to = "Product"

[[hooks.after_create]]
kind = "announce_product"

[[hooks.after_update]]
kind = "index_product"
"""


@pytest.fixture
def built(project, build):
    project.write("schema/product.toml", SCHEMA)
    assert build()[0] == 0
    return project


def line_of(project, path: str, text: str, nth: int = 0) -> int:
    lines = project.read(path).splitlines()
    return [number for number, line in enumerate(lines, 1) if text in line][nth]


@pytest.mark.parametrize(
    ("path", "text", "template", "plugin", "keys"),
    [
        ("actions/product.py", '"title": (', "actions.py.mako", "data", ["fields.title"]),
        # The formatter broke this line.
        (
            "actions/product.py",
            '"a_rather_long_name_of_a_field = %(a_rather',
            "actions.py.mako",
            "data",
            ["fields.a_rather_long_name_of_a_field"],
        ),
        ("models/product.py", "title: str", "models.py.mako", "data", ["fields.title"]),
        ("schema.sql", "title text", "schema.sql.mako", "data", ["fields.title"]),
        ("schema.sql", "parent_id uuid", "schema.sql.mako", "data", ["relations.parent"]),
        ("schema.sql", "PRIMARY KEY", "schema.sql.mako", "data", ["resource"]),
        (
            "actions/product.py",
            "'announce_product'",
            "enqueue.sql.mako",
            "jobs",
            ["hooks.after_create.0"],
        ),
        ("jobs/workers.py", "index_product:", "workers.py.mako", "jobs", ["hooks.after_update.0"]),
        ("actions/product.py", "class ProductActions", "actions.py.mako", "data", ["resource"]),
    ],
)
def test_a_line_is_explained(built, build, path, text, template, plugin, keys):
    shown = f"shop/gen/{path}"
    line = line_of(built, shown, text)
    status, out, _ = build("explain", f"{shown}:{line}", "--json")
    told = json.loads(out)

    assert status == 0
    assert text in told["text"]
    assert [key["key"] for key in told["keys"]] == keys
    (place,) = [one for one in told["written_by"] if one["template"].endswith(template)]
    assert (place["plugin"], bool(place["version"])) == (plugin, True)
    # The template's line is the one that says so.
    package, _, name = place["template"].partition(":")
    folder = ROOT / package.replace(".", "/")
    folder = folder if folder.is_dir() else ROOT / "plugins" / plugin / package
    source = (folder / name).read_text().splitlines()[place["line"] - 1]
    literal = re.sub(r"\$\{.*?\}+", "", source).strip(' ",:(')
    assert literal.split("${")[0].strip() in told["text"] or "${" in source
    key = told["keys"][0]
    at = built.read(key["file"]).splitlines()[key["line"] - 1][key["column"] - 1 :]
    assert re.match(r"\w+", at) is not None


def test_an_import_is_of_the_fragment_that_needs_it(built, build):
    line = line_of(built, "shop/gen/actions/product.py", "from forgecore_jobs import enqueues")
    _, out, _ = build("explain", f"shop/gen/actions/product.py:{line}")

    assert "template  forgecore.data:templates/actions.py.mako:7" in out
    assert "enqueues.py.mako, slot actions.method.decorators, its imports or parameters" in out
    assert "`jobs` (forgecore-jobs" in out


def test_a_key_is_followed_to_every_line(built, build):
    schema = built.read("schema/product.toml").splitlines()
    line = schema.index('kind = "index_product"') + 1
    _, out, _ = build("explain", f"schema/product.toml:{line}")

    assert out.splitlines()[0] == "schema/product.toml:15:9 hooks.after_update.0"
    assert "shop/gen/jobs/wiring.py:" in out
    assert "index_product: Worker[IndexProductArgs]" in out
    assert "announce_product" not in out

    field = schema.index(next(text for text in schema if text.startswith("title"))) + 1
    _, out, _ = build("explain", f"schema/product.toml:{field}", "--json")
    files = {one["file"]: one["lines"] for one in json.loads(out)["files"]}
    assert line_of(built, "shop/gen/schema.sql", "title text") in files["shop/gen/schema.sql"]
    for shown, numbers in files.items():
        text = built.read(shown).splitlines()
        assert all("title" in text[number - 1].lower() for number in numbers), shown


def test_what_cannot_be_explained(built, build):
    status, _, errors = build("explain", "shop/gen/actions/produkt.py:3")
    assert status == 1
    assert "did you mean `shop/gen/actions/product.py`?" in errors
    for place in ("shop/gen/actions/product.py", "schema/product.toml:x", "schema/product.toml:0"):
        status, _, errors = build("explain", place)
        assert status == 2
        assert "a line is missing" in errors
    assert build("explain", "shop/gen/schema.sql:9999")[0] == 2
    assert "no key stands at schema/product.toml:1" in build("explain", "schema/product.toml:1")[2]

    line = line_of(built, "shop/gen/schema.sql", "title text")
    built.write("shop/gen/schema.sql", "\n" + built.read("shop/gen/schema.sql"))
    _, out, errors = build("explain", f"shop/gen/schema.sql:{line}")
    assert "title text" in out
    assert "was changed by hand: this is the line of a new build" in errors


def test_every_line_of_a_project_is_known_and_of_what_it_says(tmp_path):
    copy_project(ROOT / "tests" / "fixture", tmp_path / "shop")
    output = make(tmp_path / "shop", builtin())
    for planned in output.plan.files:
        for line in lines_of(output, planned):
            assert line.places or line.text.strip() in {"", ")", "]", "}", "),"}, (
                planned.file.path,
                line,
            )


def test_lines_are_found_whatever_the_formatter_did(tmp_path):
    copy_project(ROOT / "tests" / "fixture", tmp_path / "shop")
    output = make(tmp_path / "shop", builtin())
    from forgecore.render.files import traced

    checked = 0
    for planned in output.plan.files:
        path = planned.file.path
        if not path.endswith(".py"):
            continue
        raw = str(traced(planned, output.common.origins))
        before = raw.split("\n")
        text = output.texts[path]
        statements = {
            number
            for node in ast.parse(text).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for number in range(node.lineno, (node.end_lineno or 0) + 1)
        }
        lines = zip(text.split("\n"), lines_before(raw, text, path), strict=True)
        for number, (shown, numbers) in enumerate(lines, 1):
            if number not in statements:
                whole = " ".join(before[old - 1] for old in numbers)
                assert set(re.findall(r"\w+", shown)) <= set(re.findall(r"\w+", whole)), shown
                checked += 1
    assert checked > 500


def test_a_view_that_raises_is_told_with_the_line_of_the_template_and_of_the_view(
    project, monkeypatch
):
    package = project.folder / "site" / "broken_view"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from attrs import frozen\n"
        "from forgecore.plugin import GeneratedFile, hookimpl\n\n\n"
        "@frozen\nclass View:\n    name: str\n\n"
        "    @property\n    def text(self):\n        return {}[self.name]\n\n\n"
        "@hookimpl\ndef forgecore_render(ctx):\n"
        "    for one in ctx.resources:\n"
        "        yield GeneratedFile(path=f'gen/broken/{one.snake}.py', resource=one.name,\n"
        "            template='broken_view:view.mako', view=View(one.name))\n"
    )
    (package / "view.mako").write_text("# first\n# ${view.name}\n# ${view.text}\n")
    info = project.folder / "site" / "broken_view-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-view\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[forgecore]\nbroken = broken_view\n")
    project.write("schema/product.toml", SCHEMA.partition("[[hooks")[0])
    project.write("forge.toml", '[project]\nname = "shop"\nplugins = ["broken"]\n')
    there = {"PYTHONPATH": f"{project.environ['PYTHONPATH']}:{package.parent}"}
    done = project.run("build", env=there)

    assert done.returncode == 1
    assert "schema/product.toml:3:8: error[bad-template]: gen/broken/product.py" in done.stderr
    assert "plugin `broken` (broken-view 2.1)" in done.stderr
    assert "broken_view:view.mako:3: KeyError: 'Product' (at " in done.stderr
    assert "broken_view/__init__.py:11)" in done.stderr
    assert not (project.folder / "shop").exists()


def test_a_word_that_is_a_field_s_name_by_chance_is_no_key(project, build):
    fields = "".join(f'{name} = {{ type = "int" }}\n' for name in ("limit", "typing", "where"))
    project.write("schema/product.toml", f'[resource]\nname = "Product"\n[fields]\n{fields}')
    assert build()[0] == 0
    path = "shop/gen/actions/product.py"
    for text in ("limit: int = 50,", "from typing import", "where: Condition[Product] | None"):
        _, out, _ = build("explain", f"{path}:{line_of(project, path, text)}", "--json")
        assert [key["key"] for key in json.loads(out)["keys"]] == ["resource"], text
    line = line_of(project, path, 'id, "limit", typing')
    _, out, _ = build("explain", f"{path}:{line}", "--json")
    keys = [key["key"] for key in json.loads(out)["keys"]]
    assert keys == ["fields.limit", "fields.typing", "fields.where"]
    assert build("explain", "schema/product.toml:99")[0] == 2
    assert build("explain", f"{path}:²")[0] == 2


def test_a_parameter_is_of_what_its_fragment_is_of(built, build):
    otel = '[project]\nname = "shop"\nplugins = ["jobs", "scaffold", "otel"]\n'
    built.write("forge.toml", otel)
    assert build()[0] == 0
    path = "shop/gen/actions/product.py"
    line = line_of(built, path, '{"jobs__metadata": Jsonb(metadata())}')
    _, out, _ = build("explain", f"{path}:{line}", "--json")
    keys = [key["key"] for key in json.loads(out)["keys"]]
    assert keys[-1].startswith("hooks.after_")
    schema = built.read("schema/product.toml").splitlines()
    hook = schema.index('kind = "announce_product"') + 1
    files = json.loads(build("explain", f"schema/product.toml:{hook}", "--json")[1])["files"]
    (lines,) = [one["lines"] for one in files if one["file"] == path]
    assert line in lines


def test_a_scaffold_is_its_user_s(built, build):
    assert build("scaffold")[0] == 0
    status, _, errors = build("explain", "shop/resources/product/jobs.py:3")
    assert status == 1
    assert "was scaffolded, and is yours since: `forgecore why shop/resources" in errors
