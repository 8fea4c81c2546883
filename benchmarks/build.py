"""Generate code for 10, 100 and 1,000 resources: cold, again, and after one change, by us and by peers.

    python build.py [--sizes 10,100,1000] [--rounds 3] [--alone]

Every system has the same resources in its own language: a schema of ours with a job each, an
OpenAPI document with the five operations and three models of each, a GraphQL schema with the five
operations. What they make is not the same, so a cold build is also given per line. Peers make
everything anew each time. Wall and CPU seconds of the whole command, children included, as the
median of the rounds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-bench" / "build"
LONGEST = 900

SCHEMA = """[resource]
name = "Thing{n}"
tenant_scoped = true
soft_delete = true
timestamps = true

[fields]
title  = {{ type = "string", required = true, max_length = 200, sortable = true }}
price  = {{ type = "decimal", precision = 10, scale = 2, required = true, min = 0 }}
status = {{ type = "enum", values = ["draft", "active"], default = "draft" }}
sku    = {{ type = "string", required = true, unique = true, immutable = true }}

[[hooks.after_create]]
kind = "notify_thing{n}"
"""

FIELDS: dict[str, dict[str, Any]] = {
    "title": {"type": "string", "maxLength": 200},
    "price": {"type": "number", "minimum": 0},
    "status": {"type": "string", "enum": ["draft", "active"], "default": "draft"},
    "sku": {"type": "string"},
}
RECORD: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "format": "uuid"},
    **FIELDS,
    "created_at": {"type": "string", "format": "date-time"},
    "updated_at": {"type": "string", "format": "date-time"},
}


class Forgecore:
    name = "forgecore"
    gen = "bench/gen"

    def write(self, folder: Path, count: int) -> None:
        (folder / "schema").mkdir()
        plugins = '["jobs", "scaffold"]'
        (folder / "forge.toml").write_text(f'[project]\nname = "bench"\nplugins = {plugins}\n')
        for n in range(count):
            (folder / "schema" / f"thing{n}.toml").write_text(SCHEMA.format(n=n))

    def after_first(self, folder: Path) -> None:
        # A project has workers; without them each kind would be warned of.
        run([sys.executable, "-m", "forgecore", "scaffold"], folder)
        run(self.command(folder), folder)

    def command(self, _folder: Path) -> list[str]:
        return [sys.executable, "-m", "forgecore", "build"]

    def change(self, folder: Path) -> None:
        first = folder / "schema" / "thing0.toml"
        first.write_text(first.read_text().replace("max_length = 2", "max_length = 22"))


class OpenApi:
    """What the two peers that read OpenAPI have in common."""

    gen = "out"

    def write(self, folder: Path, count: int) -> None:
        schemas: dict[str, Any] = {}
        paths: dict[str, Any] = {}
        for n in range(count):
            name = f"Thing{n}"
            schemas[name] = table(RECORD, required=["id", "title", "price", "sku"])
            schemas[f"{name}Create"] = table(FIELDS, required=["title", "price", "sku"])
            schemas[f"{name}Update"] = table(FIELDS, required=[])
            paths[f"/things{n}"] = {
                "get": operation(f"list_thing{n}", {"type": "array", "items": ref(name)}),
                "post": operation(f"create_thing{n}", ref(name), ref(f"{name}Create")),
            }
            paths[f"/things{n}/{{id}}"] = {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": RECORD["id"]}
                ],
                "get": operation(f"get_thing{n}", ref(name)),
                "patch": operation(f"update_thing{n}", ref(name), ref(f"{name}Update")),
                "delete": operation(f"delete_thing{n}", None),
            }
        document = {
            "openapi": "3.0.3",
            "info": {"title": "Bench", "version": "1"},
            "paths": paths,
            "components": {"schemas": schemas},
        }
        (folder / "openapi.json").write_text(json.dumps(document, indent=1))

    def after_first(self, folder: Path) -> None:
        pass

    def change(self, folder: Path) -> None:
        path = folder / "openapi.json"
        path.write_text(path.read_text().replace('"maxLength": 200', '"maxLength": 300', 1))


class DatamodelCodeGenerator(OpenApi):
    name = "datamodel-code-generator"

    def command(self, _folder: Path) -> list[str]:
        return [
            str(PEERS / "bin" / "datamodel-codegen"),
            *("--input", "openapi.json", "--input-file-type", "openapi"),
            *("--output-model-type", "pydantic_v2.BaseModel", "--output", "out/models.py"),
            *("--formatters", "ruff-check", "ruff-format"),
        ]


class OpenapiPythonClient(OpenApi):
    name = "openapi-python-client"

    def command(self, _folder: Path) -> list[str]:
        return [
            str(PEERS / "bin" / "openapi-python-client"),
            *("generate", "--path", "openapi.json", "--output-path", "out", "--overwrite"),
        ]


class AriadneCodegen:
    name = "ariadne-codegen"
    gen = "client"

    def write(self, folder: Path, count: int) -> None:
        inner = "id title price status sku created_at updated_at"
        types, reads, writes, operations = [], [], [], []
        for n in range(count):
            given = "title: String! price: Float! status: Status sku: String!"
            types += [
                f"type Thing{n} {{ id: ID! {given} created_at: String! updated_at: String! }}",
                f"input Thing{n}Create {{ {given} }}",
                f"input Thing{n}Update {{ {given.replace('!', '')} }}",
            ]
            reads += [f"thing{n}(id: ID!): Thing{n}!", f"things{n}: [Thing{n}!]!"]
            writes += [
                f"create{n}(data: Thing{n}Create!): Thing{n}!",
                f"update{n}(id: ID!, data: Thing{n}Update!): Thing{n}!",
                f"delete{n}(id: ID!): Boolean!",
            ]
            operations += [
                f"query get{n}($id: ID!) {{ thing{n}(id: $id) {{ {inner} }} }}",
                f"query list{n} {{ things{n} {{ {inner} }} }}",
                f"mutation create{n}($d: Thing{n}Create!) {{ create{n}(data: $d) {{ {inner} }} }}",
                f"mutation update{n}($id: ID!, $d: Thing{n}Update!)"
                f" {{ update{n}(id: $id, data: $d) {{ {inner} }} }}",
                f"mutation delete{n}($id: ID!) {{ delete{n}(id: $id) }}",
            ]
        parts = [
            "enum Status { draft active }",
            *types,
            "type Query {\n" + "\n".join(reads) + "\n}",
            "type Mutation {\n" + "\n".join(writes) + "\n}",
        ]
        (folder / "schema.graphql").write_text("\n".join(parts) + "\n")
        (folder / "queries.graphql").write_text("\n".join(operations) + "\n")
        (folder / "pyproject.toml").write_text(
            "[tool.ariadne-codegen]\n"
            'schema_path = "schema.graphql"\nqueries_path = "queries.graphql"\n'
            'target_package_name = "client"\n'
        )

    def after_first(self, folder: Path) -> None:
        pass

    def command(self, _folder: Path) -> list[str]:
        return [str(PEERS / "bin" / "ariadne-codegen")]

    def change(self, folder: Path) -> None:
        path = folder / "schema.graphql"
        path.write_text(path.read_text().replace("sku: String!", "sku: String! more: Int", 1))


def table(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return {**found, "required": required} if required else found


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def operation(
    name: str, answer: dict[str, Any] | None, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    ok = {"description": "ok"} | ({"content": content(answer)} if answer else {})
    found: dict[str, Any] = {"operationId": name, "responses": {"200": ok}}
    return {**found, "requestBody": {"content": content(body)}} if body else found


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its wall and CPU seconds, children included."""
    before, start = os.times(), time.perf_counter()
    path = f"{PEERS / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=LONGEST,
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return wall, cpu


def lines_of(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.*") if path.is_file())


def measure(system: Any, count: int) -> dict[str, tuple[float, float] | int]:
    with tempfile.TemporaryDirectory(prefix="forge-bench-") as name:
        folder = Path(name)
        system.write(folder, count)
        cold = run(system.command(folder), folder)
        lines = lines_of(folder / system.gen)
        system.after_first(folder)
        again = run(system.command(folder), folder)
        system.change(folder)
        change = run(system.command(folder), folder)
    return {"cold": cold, "again": again, "change": change, "lines": lines}


def start_up(rounds: int) -> tuple[float, float]:
    """Return the seconds of `forgecore --help`, and of `import click` alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = (
            [sys.executable, "-m", "forgecore", "--help"],
            [sys.executable, "-c", "import click"],
        )
        rows = [[run(command, folder)[0] for command in commands] for _ in range(rounds * 5)]
    ours, theirs = zip(*rows, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def median(rows: list[dict[str, Any]], what: str, at: int) -> float:
    return statistics.median(row[what][at] for row in rows)


def install_peers() -> None:
    if not PEERS.exists():
        venv.create(PEERS, with_pip=True)
        pip = [str(PEERS / "bin" / "python"), "-m", "pip", "install", "-q"]
        try:
            subprocess.run([*pip, "-r", str(HERE / "requirements-build.txt")], check=True)
        except BaseException:
            shutil.rmtree(PEERS)
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,100,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without the peers")
    given = parser.parse_args()
    systems: list[Any] = [Forgecore()]
    if not given.alone:
        install_peers()
        systems += [DatamodelCodeGenerator(), OpenapiPythonClient(), AriadneCodegen()]
    for count in map(int, given.sizes.split(",")):
        print(f"\n{count} resources\n")
        print("| | lines | cold s | again s (CPU) | one change s | cold, us a line | x forgecore |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        rounds: dict[str, list[dict[str, Any]]] = {system.name: [] for system in systems}
        for _ in range(given.rounds):
            for system in systems:  # in turns: the machine does other work
                rounds[system.name].append(measure(system, count))
        ours = 0.0
        for name, rows in rounds.items():
            lines = rows[0]["lines"]
            cold, again, change = (median(rows, what, 0) for what in ("cold", "again", "change"))
            a_line = cold / lines * 1e6
            ours = ours or a_line
            print(
                f"| {name} | {lines:,} | {cold:.2f} | {again:.2f} ({median(rows, 'again', 1):.2f})"
                f" | {change:.2f} | {a_line:.1f} | {a_line / ours:.1f} |",
                flush=True,
            )
    ours, theirs = start_up(given.rounds)
    print(
        f"\n`forgecore --help` {ours:.3f} s, `import click` {theirs:.3f} s: {ours / theirs:.2f} x"
    )


if __name__ == "__main__":
    main()
