"""Random schemas build, migrate, round-trip every type, and pass a type checker."""

import datetime as dt
import importlib
import itertools
import keyword
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Project
from forgecore.names import pascal
from forgecore.runtime import acting
from forgecore.schema.check import RESERVED

COUNT = itertools.count()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ODD = ["date", "time", "datetime", "list", "str", "int", "order", "user", "select", "data", "field", "type",
       "uuid", "json", "name", "value", "limit", "after", "where", "check", "new", "old", "record", "kind"]  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(ODD), st.from_regex(r"[a-z]{1,5}(_[a-z0-9]{1,4})?", fullmatch=True)
).filter(lambda n: n not in RESERVED and not keyword.iskeyword(n) and not n.endswith("_id"))
RESOURCES = [
    "Order",
    "Page",
    "Create",
    "Update",
    "Check",
    "A",
    "Decimal",
    "Literal",
    "Field",
    "Job",
    "Get",
]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
).filter(lambda value: value is not None)
AWARE = st.datetimes(timezones=st.just(dt.UTC))

# type -> (further keys of the field, values)
KINDS = {
    "string": ("max_length = 20", TEXT),
    "text": ("", TEXT),
    "slug": ("", st.from_regex(r"[a-z0-9]{1,5}(-[a-z0-9]{1,5})?", fullmatch=True)),
    "email": ("", st.just("a@b.example")),
    "url": ("", st.just("https://example.org/x?y=%20")),
    "int": ("", st.integers(-(1 << 31), (1 << 31) - 1)),
    "bigint": ("", st.integers(-(1 << 63), (1 << 63) - 1)),
    "float": ("", st.floats(allow_nan=False, allow_infinity=False)),
    "decimal": ("precision = 12, scale = 3", st.decimals(-999999999, 999999999, places=3)),
    "bool": ("", st.booleans()),
    "uuid": ("", st.uuids()),
    "bytes": ("", st.binary(max_size=20)),
    "datetime": ("", AWARE),
    "date": ("", st.dates()),
    "time": ("", st.times()),
    "enum": (
        """values = ["a", "it's", 'q"q', "x%y", "{z}"]""",
        st.sampled_from(["a", "it's", 'q"q', "x%y", "{z}"]),
    ),
    "json": ("", JSON),
    "array": ('items = "string"', st.lists(TEXT, max_size=4)),
}
DEFAULTS = {
    "string": '"it\'s \\\\ {x} %s"', "int": "3", "bool": "true", "decimal": "1.5", "float": "-0.5",
    "date": "2030-01-01", "time": "01:02:03.000004", "enum": '"it\'s"', "json": '{ a = [1, "x"] }',
    "array": '["a", "b\\"c"]', "datetime": "2030-01-01T02:00:00+02:00",
    "uuid": '"018f3c1a-0000-7000-8000-000000000000"',
}  # fmt: skip


@st.composite
def resources(draw):
    fields = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=7, unique_by=pascal)):
        kind = draw(st.sampled_from(sorted(KINDS)))
        flags = draw(
            st.sets(st.sampled_from(["required", "default", "immutable", "sortable", "filterable"]))
        )
        fields[name] = (kind, flags)
    return fields, draw(st.sets(st.sampled_from(["tenant_scoped", "soft_delete", "timestamps"])))


def text_of(name, fields, flags, target):
    lines = [
        "[resource]",
        f'name = "{name}"',
        *(f"{flag} = true" for flag in sorted(flags)),
        "[fields]",
    ]
    for field, (kind, marks) in fields.items():
        keys = [f'type = "{kind}"']
        keys += [KINDS[kind][0]] if KINDS[kind][0] else []
        keys += [f"default = {DEFAULTS[kind]}"] if "default" in marks and kind in DEFAULTS else []
        keys += ["required = true"] if "required" in marks else []
        keys += ["immutable = true"] if "immutable" in marks else []
        plain = kind in {"bytes", "json", "array"}
        never_null = "required" in marks or ("default" in marks and kind in DEFAULTS)
        keys += ["sortable = true"] if "sortable" in marks and never_null and not plain else []
        keys += ["filterable = true"] if "filterable" in marks and not plain else []
        lines.append(f"{field} = {{ {', '.join(keys)} }}")
    lines += ["[relations]", f'up = {{ belongs_to = "{target}" }}'] if target else []
    lines += [
        "[[hooks.after_create]]",
        f'kind = "on_{name.lower()}"',
        "[[hooks.after_update]]",
        f'kind = "at_{name.lower()}"',
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.timeout(600)
@settings(
    max_examples=8, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(st.lists(resources(), min_size=2, max_size=3), st.data())
def test_a_random_schema_works_from_end_to_end(server, tmp_path_factory, found, data):
    number = next(COUNT)
    names = data.draw(st.permutations(RESOURCES))[: len(found)]
    package = f"random_{number}"
    database = f"{package}_{uuid.uuid4().hex[:8]}"
    project = Project(tmp_path_factory.mktemp("random") / package, server.database(database))
    project.write(
        "forge.toml", f'[project]\nname = "{package}"\nplugins = ["jobs", "scaffold", "otel"]\n'
    )
    for index, (name, (fields, flags)) in enumerate(zip(names, found, strict=True)):
        # Each refers to itself or to one before it that it may refer to.
        before = [n for n, (_, f) in zip(names[: index + 1], found, strict=False)
                  if "tenant_scoped" in flags or "tenant_scoped" not in f]  # fmt: skip
        target = before[0] if before else None
        project.write(f"schema/{name.lower()}.toml", text_of(name, fields, flags, target))
    project.ok("build")
    project.ok("scaffold")
    project.ok("migrate", "up")
    project.ok("migrate", "diff")
    project.ok("migrate", "up")
    assert project.ok("migrate", "diff") == "nothing to do\n"
    assert "nothing to do" in project.ok("build")
    round_trip(project, package, names, found, data)
    for command in (
        ["mypy", "--strict", package],
        ["ruff", "format", "--isolated", "--check", package],
    ):
        done = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=project.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    server.drop(database)


def round_trip(project, package, names, found, data):
    sys.path.insert(0, str(project.folder))
    try:
        with psycopg.connect(project.url, autocommit=True) as conn, acting(tenant=uuid.uuid4()):
            for name, (fields, _) in zip(names, found, strict=True):
                snake = name.lower()
                actions = getattr(
                    importlib.import_module(f"{package}.gen.actions.{snake}"), f"{name}Actions"
                )(conn)
                models = importlib.import_module(f"{package}.gen.models.{snake}")
                for _ in range(3):
                    values = {n: data.draw(KINDS[kind][1]) for n, (kind, _) in fields.items()}
                    made = actions.create(getattr(models, f"{name}Create")(**values))
                    assert {n: getattr(made, n) for n in values} == values
                    assert actions.get(made.id) == made
                    changes = {
                        n: data.draw(KINDS[kind][1])
                        for n, (kind, marks) in fields.items() if "immutable" not in marks
                    }  # fmt: skip
                    changed = actions.update(made.id, getattr(models, f"{name}Update")(**changes))
                    assert {n: getattr(changed, n) for n in changes} == changes
                    assert (
                        actions.update(made.id, getattr(models, f"{name}Update")(**changes))
                        == changed
                    )
                    assert changed in actions.list().items
            jobs = conn.execute("SELECT count(*) FROM forge.jobs").fetchone()
            assert jobs is not None and jobs[0] >= 3 * len(found)
    finally:
        sys.path.remove(str(project.folder))
