"""What a build says instead of writing: --check, --diff, --dry-run, and for machines."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCHEMA = '[resource]\nname = "Product"\n\n[fields]\ntitle = { type = "string" }\n'
OTHER = '[resource]\nname = "Tag"\n'


@pytest.fixture
def built(project, build):
    """Build a project whose tree is then brought out of order in every way."""
    project.write("schema/product.toml", SCHEMA)
    project.write("schema/tag.toml", OTHER)
    assert build()[0] == 0
    return project


def tree(project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.folder)): path.read_bytes()
        for path in sorted(project.folder.rglob("*"))
        if path.is_file() and ".forge/" not in str(path)
    }


def disturb(project) -> None:
    project.write("schema/product.toml", SCHEMA.replace('"string"', '"int"'))
    (project.folder / "schema/tag.toml").unlink()
    (project.folder / "shop/gen/validation/product.py").unlink()
    edited = "shop/gen/actions/product.py"
    project.write(edited, project.read(edited) + "# mine\n")


def test_check_names_every_file_that_is_not_as_it_should_be(built, build):
    assert build("build", "--check") == (0, "nothing to do: 14 files are as they should be\n", "")
    disturb(built)
    before = tree(built)
    status, out, _ = build("build", "--check")

    assert status == 1
    told = [line.split() for line in out.splitlines()]
    states = {words[1]: words[0][:-1] for words in told if len(words) > 2 and words[0][-1] == ":"}
    assert states["shop/gen/validation/product.py"] == "missing"
    assert states["shop/gen/models/product.py"] == "stale"
    assert states["shop/gen/actions/product.py"] == "edited"
    assert states["shop/gen/models/tag.py"] == "extra"
    assert "-# mine\n" in out
    assert "+    title: int | None\n" in out
    assert out.endswith("run `forgecore build` and commit it\n")
    assert tree(built) == before


@pytest.mark.parametrize("option", ["--diff", "--dry-run"])
def test_what_would_change_is_shown_and_nothing_written(built, build, option):
    disturb(built)
    before = tree(built)
    status, out, _ = build("build", option)

    assert status == 0
    assert "shop/gen/models/tag.py" in out
    assert ("--- a/shop/gen/models/product.py" in out) == (option == "--diff")
    assert tree(built) == before


def test_another_version_of_a_plugin_is_told_under_check(built, build):
    lock = built.read("forge.lock")
    (line,) = [line for line in lock.splitlines() if line.startswith("plugin jobs ")]
    built.write("forge.lock", lock.replace(line, "plugin jobs forgecore-jobs 0.0.1"))
    status, out, _ = build("build", "--check")

    assert status == 1
    assert "forge.lock: plugin jobs forgecore-jobs was 0.0.1 when gen/ was built, and is " in out


def test_a_merge_conflict_in_what_is_generated_is_repaired_by_a_build(built, build):
    before = tree(built)
    for path in ("forge.lock", "shop/gen/models/product.py"):
        lines = built.read(path).splitlines(keepends=True)
        lines[3:3] = ["<<<<<<< ours\n", "x\n", "=======\n", "y\n", ">>>>>>> theirs\n"]
        built.write(path, "".join(lines))
    assert build("build", "--check")[0] == 1
    status, _, errors = build("build")

    assert status == 0, errors
    assert tree(built) == before


def test_a_file_that_a_merge_mixed_is_rewritten_if_the_lock_is_in_conflict(built, build):
    before = tree(built)
    path = "shop/gen/models/product.py"
    built.write(path, built.read(path) + "# of another branch\n")
    lock = built.read("forge.lock")
    (line,) = [line for line in lock.splitlines() if line.startswith(path)]
    other = line[:-4] + "0000"
    built.write("forge.lock", lock.replace(line, f"<<<<<<< a\n{line}\n=======\n{other}\n>>>>>>> b"))
    status, _, errors = build("build")

    assert status == 0, errors
    assert tree(built) == before


def test_findings_for_machines(built, build):
    disturb(built)
    status, out, _ = build("build", "--check", "--json")
    told = json.loads(out)
    assert status == 1
    assert {"path": "shop/gen/models/tag.py", "state": "extra"} in told["differences"]

    built.write("schema/product.toml", SCHEMA.replace('"string"', '"strin"'))
    status, out, _ = build("build", "--json")
    (found,) = json.loads(out)["diagnostics"]
    assert status == 1
    assert (found["code"], found["file"], found["line"], found["column"]) == (
        *("unknown-type", "schema/product.toml", 5, 18),
    )
    assert found["suggestion"] == "string"

    status, out, _ = build("build", "--format", "github")
    assert out.startswith("::error file=schema/product.toml,line=5,col=18,title=unknown-type::")
    status, out, _ = build("build", "--format", "sarif")
    (run,) = json.loads(out)["runs"]
    (result,) = run["results"]
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 5, "startColumn": 18, "endColumn": 25}
    assert status == 1


def test_a_build_for_machines_says_what_it_wrote(project, build):
    project.write("schema/product.toml", SCHEMA)
    status, out, _ = build("build", "--json")

    assert status == 0
    assert "shop/gen/models/product.py" in json.loads(out)["written"]


def test_a_build_without_a_plugin_passes_over_what_is_said_to_it(project, build):
    project.write(
        "forge.toml", '[project]\nname = "shop"\nplugins = ["jobs"]\n\n[jobs]\ngrace = "1s"\n'
    )
    project.write("schema/product.toml", SCHEMA + '\n[[hooks.after_create]]\nkind = "notify"\n')
    status, _, errors = build("build", "--without", "jobs")
    assert status == 0, errors
    assert "forgecore_jobs" not in project.read("shop/gen/actions/product.py")
    assert not (project.folder / "shop/gen/jobs").exists()

    status, _, errors = build("build", "--without", "jbos")
    assert status == 1
    assert "error[unknown-plugin]: no plugin `jbos` to do without; did you mean `jobs`?" in errors


def test_where_the_time_went(built, build):
    _, _, errors = build("build", "--stats")
    names = {line.split()[-1] for line in errors.splitlines() if " ms " in line}
    assert {"load", "render", "format", "write", "jobs"} <= names
    assert "forgecore.data:templates/models.py.mako" in names


def test_the_example_is_up_to_date(build, monkeypatch, capsys):
    from forgecore.cli.app import main

    monkeypatch.setenv("FORGE_PROJECT_DIR", str(ROOT / "examples" / "shop"))
    assert main(["build", "--check"]) == 0, capsys.readouterr().out


def test_options_that_contradict_each_other(built, build):
    status, _, errors = build("build", "--check", "--force")
    assert status == 2
    assert "--force writes" in errors
