"""What editors complete and check by takes what a build takes, and knows what plugins add."""

import json
import shutil
import tomllib

import jsonschema
import pytest

from conftest import ROOT, copy_project


def validator(project, name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads(project.read(f".forge/{name}"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def built(project, build):
    shutil.rmtree(project.folder)
    copy_project(ROOT / "tests" / "fixture", project.folder)
    assert build()[0] == 0
    return project


def test_what_builds_is_taken(built):
    resources, config = validator(built, "schema.json"), validator(built, "config.json")
    files = sorted((built.folder / "schema").rglob("*.toml"))
    assert files
    for path in files:
        assert list(resources.iter_errors(tomllib.loads(path.read_text()))) == [], path
    assert list(config.iter_errors(tomllib.loads(built.read("forge.toml")))) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[resource]\nname = "A"\nsoft_delte = true\n', "soft_delte"),
        ('[resource]\nname = "A"\n[fields]\nx = { type = "strnig" }\n', "strnig"),
        ('[resource]\nname = "A"\n[fields]\nx = { required = true }\n', "'type' is a required"),
        ('[resource]\nname = "A"\n[[hooks.after_create]]\nqueu = "a"\nkind = "b"\n', "queu"),
        ('[resource]\nname = "A"\n[[hooks.after_crate]]\nkind = "b"\n', "after_crate"),
        (
            '[resource]\nname = "A"\n[[hooks.after_create]]\nkind = "b"\ntimeout = 3\n',
            "3 is not of",
        ),
        ('[resource]\nname = "A"\n[relations.x]\nbelongs_to = "A"\non_delete = "no"\n', "'no' is"),
        ("[fields]\n", "'resource' is a required"),
    ],
)
def test_what_does_not_build_is_told(built, text, said):
    resources = validator(built, "schema.json")
    errors = [error.message for error in resources.iter_errors(tomllib.loads(text))]
    assert any(said in error for error in errors), errors


def test_mistakes_in_the_configuration(built):
    config = validator(built, "config.json")
    for text in ("[jbos]\n", "[jobs]\ncarier = 3\n", '[database]\npool = "x"\n'):
        assert list(config.iter_errors(tomllib.loads(text))), text


def test_a_plugin_that_goes_takes_its_keys_along(built, build):
    built.write("forge.toml", '[project]\nname = "shop"\nplugins = []\n')
    for path in (built.folder / "schema").rglob("*.toml"):
        path.unlink()
    built.write("schema/a.toml", '[resource]\nname = "A"\n')
    assert build()[0] == 0
    text = '[resource]\nname = "A"\n[[hooks.after_create]]\nkind = "b"\n'
    assert list(validator(built, "schema.json").iter_errors(tomllib.loads(text)))


def test_it_comes_back(built, build):
    (built.folder / ".forge" / "schema.json").unlink()
    build()
    assert (built.folder / ".forge" / "schema.json").exists()
