"""Each folder of `cases` is a project with mistakes and what one run says of them.

`FORGE_UPDATE=1 pytest tests/test_cases.py` writes the files anew; read them in review.
"""

import os
import re
from pathlib import Path

import pytest

from conftest import Project, copy_project

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_case(name, tmp_path):
    copy_project(CASES / name, tmp_path / "project")
    project = Project(tmp_path / "project")
    before = sorted(path for path in project.folder.rglob("*"))

    done = project.run("build")

    expected = CASES / name / "stderr.txt"
    if os.environ.get("FORGE_UPDATE"):
        expected.write_text(done.stderr, encoding="utf-8")
    assert done.stderr == expected.read_text(encoding="utf-8")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    after = sorted(path for path in project.folder.rglob("*") if path.name != ".forge")
    assert after == before
    errors = [line for line in done.stderr.splitlines() if "error[" in line]
    placed = [line for line in errors if re.match(r"\S+\.toml:\d+:\d+: error\[[a-z/-]+\]: ", line)]
    assert placed == errors or name == "not_utf8"
