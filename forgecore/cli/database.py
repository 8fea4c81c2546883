"""Which database the commands work on, and its start where it is the embedded one."""

import os

from forgecore.cli.project import EnvironmentFailedError, project_folder
from forgecore.database.embedded import Embedded, EmbeddedError
from forgecore.private import private_folder
from forgecore.runtime.settings import DatabaseSettings, read_section


def embedded_server() -> Embedded:
    """Return the server of the project, running or not."""
    return Embedded(folder=private_folder(project_folder()))


def needed_database() -> str:
    """Return the address of the project's database; the embedded server is started for it."""
    folder = project_folder()
    # The settings are read from where the project is, not from where the command was called.
    os.environ["FORGE_PROJECT_DIR"] = str(folder)
    settings = read_section(DatabaseSettings, "database")
    if settings.url != "embedded":
        return settings.url
    try:
        return embedded_server().start()
    except EmbeddedError as error:
        raise EnvironmentFailedError(str(error)) from error
