"""What a schema with colours becomes."""

from pathlib import Path

import pytest

from forgecore.testing import TemporaryProject, faults_of

SCHEMA = """
[resource]
name = "Theme"

[fields]
background = { type = "color", default = "#ffffff" }
accents = { type = "array", items = "color" }
"""


@pytest.fixture
def project(tmp_path: Path) -> TemporaryProject:
    made = TemporaryProject(tmp_path, ["color"])
    made.schema("theme", SCHEMA)
    return made


def test_a_colour_is_text_with_a_form(project: TemporaryProject) -> None:
    built = project.build()

    assert built.is_sound, built.text
    assert "background: str" in built.files["gen/models/theme.py"]
    rule = '"background": rules.text(pattern="#[0-9a-f]{6}")'
    assert rule in built.files["gen/validation/theme.py"]
    check = "background ~ '^#[0-9a-f]{6}$'"
    assert check in built.files["gen/schema.sql"]


def test_a_default_that_is_no_colour_is_told(project: TemporaryProject) -> None:
    project.schema("theme", SCHEMA.replace("#ffffff", "white"))

    assert project.build().found == ["bad-default schema/theme.toml:6:42"]


def test_it_keeps_what_every_plugin_keeps(project: TemporaryProject) -> None:
    assert faults_of(project, "color") == []
