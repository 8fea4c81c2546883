"""The command `forgecore`."""

import sys


def main() -> None:
    """Run the command line; without the build extra, say what to install."""
    try:
        from forgecore.cli.app import run  # noqa: PLC0415 -- the runtime installs without it
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "forgecore":
            raise
        sys.stderr.write(
            f"forgecore: the command needs the build extra ({error.name} is missing): "
            "pip install 'forgecore[build]'\n"
        )
        sys.exit(3)
    run()


if __name__ == "__main__":
    main()
