"""What plugins and hooks add to jobs: for the generated actions and for enqueue()."""

${imports}


def metadata() -> Mapping[str, str]:
    """Return what goes with a job from its enqueue to its run."""
    return {
% for expression in expressions("jobs.metadata"):
        **${expression},
% endfor
    }


WIRING: Final = Wiring(
    metadata=metadata,
    around=(
% for expression in expressions("jobs.around"):
        ${expression},
% endfor
    ),
    defaults={
% for one in view.defaults:
        "${one.kind}": ${one.text},
% endfor
    },
)
