"""The folder .forge of a project: what the tool keeps there is nobody's to commit."""

from pathlib import Path


def private_folder(project: Path) -> Path:
    """Return the project's .forge, made if it is missing, with a .gitignore of its own."""
    folder = project / ".forge"
    folder.mkdir(exist_ok=True)
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return folder
