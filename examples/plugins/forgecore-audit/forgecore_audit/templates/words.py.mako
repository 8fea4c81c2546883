"""How a change of a ${view.resource.words} is said. Yours: no build touches this file."""

${imports}


def in_words(entry: Entry) -> str:
    """Return what happened, for people."""
    return f"{entry.event} of a ${view.resource.words} by {entry.changed_by}"
