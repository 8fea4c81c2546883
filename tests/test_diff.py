"""What a change of the schema breaks, by what it does to data, callers and jobs."""

import json
import subprocess

import pytest
from forgecore_jobs.changes import CODES as JOBS

from forgecore.data.changes import CODES as DATA

CONFIG = '[project]\nname = "shop"\nplugins = ["jobs"]\n[jobs.queues]\nsearch = 3\n'
CATEGORY = '[resource]\nname = "Category"\n[fields]\ntitle = { type = "string" }\n'
PRODUCT = """[resource]
name = "Product"
table = "products"
timestamps = false
soft_delete = false
tenant_scoped = false

[fields]
title = { type = "string", max_length = 20, min_length = 2, filterable = true }
price = { type = "decimal", precision = 8, scale = 2, required = true, min = 0, sortable = true }
count = { type = "int", default = 3 }
state = { type = "enum", values = ["draft", "sold"] }

[relations.category]
belongs_to = "Category"

[[hooks.after_create]]
kind = "index_product"
queue = "search"
"""


@pytest.fixture
def committed(project):
    for path, text in (
        ("forge.toml", CONFIG),
        ("schema/product.toml", PRODUCT),
        ("schema/category.toml", CATEGORY),
    ):
        project.write(path, text)
    commit(project)
    return project


def commit(project) -> None:
    me = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
    for command in (["init", "-q"], ["add", "."], [*me, "commit", "--allow-empty", "-qm", "it"]):
        subprocess.run(["git", *command], cwd=project.folder, check=True)


def found(build, *options: str) -> tuple[int, set[tuple[str, str, str]]]:
    status, out, errors = build("diff", "HEAD", "--json", *options)
    told = json.loads(out) if out else {"changes": []}
    assert out or errors
    return status, {(one["effect"], one["code"], one["subject"]) for one in told["changes"]}


EDITS = [
    ("max_length = 20", "max_length = 10", {("breaks", "data/check-changed", "Product.title"), ("breaks", "data/rule-changed", "Product.title")}),
    ("max_length = 20", "max_length = 30", {("locks", "data/check-changed", "Product.title")}),
    ("min_length = 2", "min_length = 3", {("breaks", "data/check-changed", "Product.title"), ("breaks", "data/rule-changed", "Product.title")}),
    (", min = 0", "", {("safe", "data/check-changed", "Product.price")}),
    (", filterable = true", "", {("breaks", "data/list-changed", "Product.title")}),
    (", sortable = true", "", {("breaks", "data/list-changed", "Product.price"), ("safe", "data/index-dropped", "Product.price")}),
    ("filterable = true", "filterable = true, unique = true", {("breaks", "data/index-added", "Product.title")}),
    ("precision = 8", "precision = 9", {("locks", "data/column-retyped", "Product.price")}),
    ("precision = 8", "precision = 7", {("breaks", "data/column-retyped", "Product.price")}),
    ('"int"', '"bigint"', {("locks", "data/column-retyped", "Product.count")}),
    ('{ type = "int", default = 3 }', '{ type = "string", default = "3" }', {("breaks", "data/column-retyped", "Product.count"), ("breaks", "data/attribute-retyped", "Product.count"), ("safe", "data/default-changed", "Product.count")}),
    ("default = 3", "default = 4", {("safe", "data/default-changed", "Product.count")}),
    (", required = true, min = 0, sortable = true", ", min = 0", {("breaks", "data/list-changed", "Product.price"), ("safe", "data/index-dropped", "Product.price"), ("safe", "data/column-optional", "Product.price"), ("breaks", "data/attribute-retyped", "Product.price")}),
    ('"draft", "sold"', '"draft"', {("breaks", "data/check-changed", "Product.state"), ("breaks", "data/rule-changed", "Product.state"), ("breaks", "data/attribute-retyped", "Product.state")}),
    ('type = "string", max', 'type = "string", required = true, max', {("breaks", "data/column-required", "Product.title"), ("breaks", "data/input-required", "Product.title"), ("safe", "data/attribute-retyped", "Product.title")}),
    ("default = 3", "default = 3, immutable = true", {("breaks", "data/input-removed", "Product.count")}),
    ('count = { type = "int", default = 3 }\n', "", {("breaks", "data/column-dropped", "Product.count"), ("breaks", "data/attribute-removed", "Product.count")}),
    ("[relations", 'notes = { type = "text" }\n[relations', {("safe", "data/column-added", "Product.notes"), ("safe", "data/attribute-added", "Product.notes")}),
    ("[relations", 'code = { type = "text", required = true }\n[relations', {("breaks", "data/column-required", "Product.code"), ("breaks", "data/input-required", "Product.code")}),
    ('belongs_to = "Category"', 'belongs_to = "Category"\non_delete = "cascade"', {("breaks", "data/reference-changed", "Product.category_id")}),
    ('belongs_to = "Category"', 'belongs_to = "Category"\n[relations.other]\nbelongs_to = "Category"', {("safe", "data/column-added", "Product.other_id"), ("safe", "data/attribute-added", "Product.other_id"), ("locks", "data/reference-changed", "Product.other_id") }),
    ('belongs_to = "Category"', 'belongs_to = "Product"', {("breaks", "data/reference-changed", "Product.category_id")}),
    ('[relations.category]\nbelongs_to = "Category"\n', "", {("breaks", "data/column-dropped", "Product.category_id"), ("breaks", "data/attribute-removed", "Product.category_id")}),
    ('"products"', '"goods"', {("breaks", "data/table-renamed", "Product")}),
    ("timestamps = false", "timestamps = true", {("safe", "data/column-added", "Product.created_at"), ("safe", "data/column-added", "Product.updated_at"), ("locks", "data/index-added", "Product.created_at")}),
    ("soft_delete = false", "soft_delete = true", {("safe", "data/delete-changed", "Product"), ("safe", "data/column-added", "Product.deleted_at"), ("safe", "data/index-dropped", "Product.price"), ("locks", "data/index-added", "Product.price")}),
    ("tenant_scoped = false", "tenant_scoped = true", {("breaks", "data/tenant-changed", "Product"), ("breaks", "jobs/args-changed", "index_product")}),
    ('kind = "index_product"\n', 'kind = "find_product"\n', {("breaks", "jobs/kind-removed", "index_product"), ("safe", "jobs/kind-added", "find_product")}),
    ("after_create", "after_update", {("breaks", "jobs/hook-removed", "index_product"), ("safe", "jobs/hook-added", "index_product")}),
    ('type = "string", max_length = 20', 'type = "email", max_length = 20', {("breaks", "data/rule-changed", "Product.title")}),
    ('type = "string", max_length = 20', 'type = "text", max_length = 30', {("locks", "data/check-changed", "Product.title")}),
    ('type = "string", max_length = 20', 'type = "text", max_length = 10', {("breaks", "data/check-changed", "Product.title"), ("breaks", "data/rule-changed", "Product.title")}),
    ('"draft", "sold"', '"sold", "draft"', {("locks", "data/check-changed", "Product.state")}),
    ("count = {", 'category_name = { type = "text", unique = true }\ncount = {', {("safe", "data/column-added", "Product.category_name"), ("safe", "data/attribute-added", "Product.category_name"), ("locks", "data/index-added", "Product.category_name")}),
    ('[relations.category]\nbelongs_to = "Category"\n', 'category_id = { type = "uuid" }\n', {("safe", "data/reference-changed", "Product.category_id"), ("safe", "data/index-dropped", "Product.category_id")}),
    ('"Product"', '"Item"', {("breaks", "data/class-removed", "Product"), ("safe", "data/class-added", "Item")}),
    ('queue = "search"', "", {("safe", "jobs/queue-changed", "index_product")}),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), EDITS)
def test_a_change_and_what_it_does(committed, build, old, new, expected):
    assert old in PRODUCT
    committed.write("schema/product.toml", PRODUCT.replace(old, new))
    status, changes = found(build)

    assert changes == expected
    assert status == any(effect == "breaks" for effect, _, _ in expected)


def test_nothing_has_changed(committed, build):
    assert build("diff", "HEAD") == (
        0,
        "nothing has changed that matters to data, callers or jobs\n",
        "",
    )


def test_the_way_back(committed, build):
    """What is safe one way may break the other."""
    flags = PRODUCT.replace("= false", "= true").replace(
        "tenant_scoped = true", "tenant_scoped = false"
    )
    committed.write("schema/product.toml", flags)
    commit(committed)
    committed.write("schema/product.toml", PRODUCT)
    _, changes = found(build)

    assert ("breaks", "data/delete-changed", "Product") in changes
    assert ("breaks", "data/column-dropped", "Product.updated_at") in changes


def test_a_resource_comes_and_goes(committed, build):
    (committed.folder / "schema" / "category.toml").unlink()
    text = PRODUCT.replace('belongs_to = "Category"', 'belongs_to = "Tag"')
    committed.write("schema/product.toml", text)
    committed.write("schema/tag.toml", CATEGORY.replace("Category", "Tag"))
    status, changes = found(build)

    assert status == 1
    assert {
        ("breaks", "data/table-dropped", "Category"),
        ("breaks", "data/class-removed", "Category"),
        ("safe", "data/table-added", "Tag"),
        ("safe", "data/class-added", "Tag"),
    } < changes
    # What is gone stands where it stood.
    assert "HEAD:schema/category.toml:2:8: the table categories goes" in build("diff", "HEAD")[1]


def test_jobs_that_wait_in_a_queue_that_goes(committed, build):
    committed.write("forge.toml", CONFIG.replace("search", "finding"))
    committed.write("schema/product.toml", PRODUCT.replace('"search"', '"finding"'))
    _, changes = found(build)
    assert ("breaks", "jobs/queue-removed", "search") in changes

    # What is gone stands where it stood, in the file as it was.
    assert "HEAD:forge.toml:5:1: jobs that wait in the queue search" in build("diff", "HEAD")[1]


def test_which_updates_enqueue_a_job(committed, build):
    def hook(names: str) -> str:
        only = f"only_if_changed = [{names}]" if names else ""
        return PRODUCT.replace("after_create", "after_update") + only

    for before, after, effect in (
        ("", '"title"', "breaks"),
        ('"title"', '"price"', "breaks"),
        ('"title"', '"title", "price"', "safe"),
        ('"title"', "", "safe"),
    ):
        committed.write("schema/product.toml", hook(before))
        commit(committed)
        committed.write("schema/product.toml", hook(after))
        assert found(build)[1] == {(effect, "jobs/hook-changed", "index_product")}


def test_another_package_is_another_import_for_everybody(committed, build):
    committed.write(
        "forge.toml", CONFIG.replace('name = "shop"', 'name = "shop"\npackage = "store"')
    )
    assert found(build) == (1, {("breaks", "data/package-changed", "store")})


def test_a_plugin_that_goes_is_told(committed, build):
    committed.write("forge.toml", CONFIG.partition("[jobs")[0].replace('"jobs"', ""))
    committed.write("schema/product.toml", PRODUCT.partition("[[hooks")[0])
    assert found(build) == (1, {("breaks", "plugin-removed", "jobs")})


def test_a_trash_that_comes_makes_unique_keys_anew(committed, build):
    unique = PRODUCT.replace("filterable = true", "filterable = true, unique = true")
    committed.write("schema/product.toml", unique)
    commit(committed)
    committed.write(
        "schema/product.toml", unique.replace("soft_delete = false", "soft_delete = true")
    )
    assert ("locks", "data/index-added", "Product.title") in found(build)[1]
    commit(committed)
    committed.write("schema/product.toml", unique)
    assert ("breaks", "data/index-added", "Product.title") in found(build)[1]


def test_what_git_does_not_export_is_compared(committed, build):
    committed.write(".gitattributes", "schema/ export-ignore\n")
    commit(committed)
    assert build("diff", "HEAD")[0] == 0
    committed.write("schema/product.toml", PRODUCT.replace("title", "name"))
    assert build("diff", "HEAD")[0] == 1

    (committed.folder / "schema" / "category.toml").unlink()
    (committed.folder / "schema" / "category.toml").symlink_to("../category.toml")
    committed.write("category.toml", CATEGORY)
    commit(committed)
    status, _, errors = build("diff", "HEAD")
    assert status == 1
    assert "schema/category.toml is a link there" in errors


def test_a_kind_of_another_name_has_a_way_on(committed, build):
    committed.write("schema/product.toml", PRODUCT.replace("index_product", "find_product"))
    _, out, _ = build("diff", "HEAD")
    assert "if it is called find_product now, give that aliases=('index_product',)" in out


def test_every_code_is_met():
    met = {code for _, _, expected in EDITS for _, code, _ in expected}
    others = {"data/table-dropped", "data/table-added", "data/package-changed"}
    assert met | others | {"jobs/queue-removed", "jobs/hook-changed"} == {*DATA, *JOBS}


def test_what_was_decided_on_may_pass(committed, build):
    committed.write("schema/product.toml", PRODUCT.replace("max_length = 20", "max_length = 10"))
    assert found(build, "--allow", "data/check-changed")[0] == 1
    both = ["--allow", "data/check-changed", "--allow", "data/rule-changed:Product.title"]
    assert found(build, *both)[0] == 0
    assert found(build, *both[:3], "data/rule-changed:Product.price")[0] == 1
    _, out, errors = build("diff", "HEAD", "--allow", "data/check-changed", "--allow", "x")
    assert "allowed schema/product.toml:9:41: what products.title may hold" in out
    assert errors == "--allow x: nothing of that has changed\n"

    _, out, _ = build("diff", "HEAD", "--format", "github", *both[:2])
    first, second = out.splitlines()
    assert first.startswith("::warning file=schema/product.toml,line=9,col=41,")
    assert second.startswith("::error file=schema/product.toml,line=9,col=41,")
    _, out, _ = build("diff", "HEAD", "--format", "sarif")
    results = json.loads(out)["runs"][0]["results"]
    assert {one["ruleId"] for one in results} == {"data/check-changed", "data/rule-changed"}


def test_a_project_below_the_repository_s_root(committed, build, monkeypatch):
    inner = committed.folder / "inner"
    committed.write("inner/forge.toml", '[project]\nname = "inner"\nplugins = []\n')
    committed.write("inner/schema/tag.toml", CATEGORY.replace("Category", "Tag"))
    commit(committed)
    committed.write("inner/schema/tag.toml", CATEGORY.replace("Category", "Label"))
    status, out, _ = build("--project", str(inner), "diff", "HEAD")

    assert status == 1
    assert "HEAD:schema/tag.toml:2:8: the table tags goes" in out


def test_revisions_that_cannot_be_compared(committed, build, tmp_path):
    status, _, errors = build("diff", "nowhere")
    assert status == 1
    assert "error[unknown-revision]: git says: " in errors
    assert build("diff", "--", "-x")[0] == 2

    committed.write("schema/product.toml", PRODUCT.replace("decimal", "decimul"))
    commit(committed)
    committed.write("schema/product.toml", PRODUCT)
    status, _, errors = build("diff", "HEAD")
    assert status == 1
    assert "the schema of HEAD does not build; it says:" in errors
    assert "did you mean `decimal`" in errors


def test_a_folder_that_is_no_repository(project, build):
    project.write("schema/product.toml", CATEGORY)
    status, _, errors = build("diff", "HEAD")
    assert status == 1
    assert "not a git repository" in errors
