"""Build 1,000 resources: cold, no-op, and one change. Wall and CPU seconds, children included."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCHEMA = """
[resource]
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


def main() -> None:
    for count in (10, 100, 1000):
        with tempfile.TemporaryDirectory(prefix="forge-bench-") as name:
            folder = Path(name)
            (folder / "schema").mkdir()
            (folder / "forge.toml").write_text('[project]\nname = "bench"\nplugins = ["jobs"]\n')
            for n in range(count):
                (folder / "schema" / f"thing{n}.toml").write_text(SCHEMA.format(n=n))
            cold = timed(folder)
            lines = sum(
                path.read_bytes().count(b"\n") for path in (folder / "bench" / "gen").rglob("*.*")
            )
            noop = timed(folder)
            first = folder / "schema" / "thing0.toml"
            first.write_text(first.read_text().replace("max_length = 200", "max_length = 300"))
            change = timed(folder)
            print(f"{count:5} resources, {lines:7} lines")
            for what, (wall, cpu) in (("cold", cold), ("no-op", noop), ("one change", change)):
                print(f"      {what:<10} {wall:6.2f} s wall  {cpu:6.2f} s CPU")


def timed(folder: Path) -> tuple[float, float]:
    before, start = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "forgecore", "build"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return time.perf_counter() - start, cpu


if __name__ == "__main__":
    main()
