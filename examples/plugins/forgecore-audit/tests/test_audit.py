"""What an audited resource becomes."""

from pathlib import Path

import pytest

from forgecore.testing import TemporaryProject, assert_golden, faults_of

SCHEMA = """
[resource]
name = "Product"
tenant_scoped = true

[fields]
title = { type = "string", required = true, max_length = 20 }
price = { type = "int" }

[audit]
fields = ["title"]
"""
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def project(tmp_path: Path) -> TemporaryProject:
    made = TemporaryProject(tmp_path, ["audit", "jobs"])
    made.schema("product", SCHEMA)
    made.schema("tag", '[resource]\nname = "Tag"\n[fields]\ntitle = { type = "string" }\n')
    return made


def test_what_is_generated_is_what_was_read_once(project: TemporaryProject) -> None:
    built = project.build()
    assert built.is_sound, built.text
    path = "gen/audit/product.py"

    assert_golden({path: built.files[path]}, GOLDEN)


def test_each_statement_writes_what_changed(project: TemporaryProject) -> None:
    actions = project.build().files["gen/actions/product.py"]

    assert actions.count("INSERT INTO forge.audit") == 3
    assert "jsonb_build_object('title', old.\"title\")" in actions
    assert 'AUDITED: Final = ("title",)' in actions
    # Three methods of each of two classes; nobody is asked who reads.
    assert actions.count("@needs_user") == 6


def test_what_is_not_audited_is_left_alone(project: TemporaryProject) -> None:
    files = project.build().files
    alone = project.build(without=["audit"]).files

    assert files["gen/actions/tag.py"] == alone["gen/actions/tag.py"]
    assert "gen/audit/tag.py" not in files


def test_it_has_timestamps(project: TemporaryProject) -> None:
    assert "updated_at" in project.build().files["gen/models/product.py"]


def test_a_field_that_is_not_there_is_told(project: TemporaryProject) -> None:
    project.schema("product", SCHEMA.replace('["title"]', '["titel"]'))
    (found,) = project.build().diagnostics

    assert (found.code, found.suggestion) == ("audit/unknown-field", "title")
    assert str(found.span) == "schema/product.toml:11:10"


def test_its_section_has_limits(project: TemporaryProject) -> None:
    project.config("[audit]\nkeep_days = 0\n")

    assert project.build().found == ["bad-value forge.toml:6:13"]


def test_it_does_without_jobs(tmp_path: Path) -> None:
    project = TemporaryProject(tmp_path, ["audit"])
    project.schema("product", SCHEMA)

    assert project.build().is_sound


def test_it_keeps_what_every_plugin_keeps(project: TemporaryProject) -> None:
    # With what it would add itself, all else must stay as it is without the plugin.
    flags = "timestamps = true\nsoft_delete = true\ntenant_scoped = true"
    project.schema("product", SCHEMA.replace("tenant_scoped = true", flags))

    assert faults_of(project, "audit") == []
