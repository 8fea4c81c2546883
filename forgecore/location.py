"""Where the project is: what the runtime and every command ask, and ask in one way."""

import os
from pathlib import Path


def find_project(start: Path | None = None) -> Path | None:
    """Return the folder of forge.toml: FORGE_PROJECT_DIR, or the nearest at or above `start`."""
    if named := os.environ.get("FORGE_PROJECT_DIR"):
        return Path(named).resolve()
    here = (start or Path.cwd()).resolve()
    return next((f for f in (here, *here.parents) if (f / "forge.toml").is_file()), None)


def choose_project(folder: Path) -> None:
    """Make `folder` the project of this process and of those that it starts."""
    os.environ["FORGE_PROJECT_DIR"] = str(folder.resolve())
