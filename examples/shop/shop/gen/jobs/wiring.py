"""What plugins and hooks add to jobs: for the generated actions and for enqueue()."""

from collections.abc import Mapping
from typing import Final

from forgecore_jobs.wiring import Defaults, Wiring
from forgecore_otel import job_span, trace_context


def metadata() -> Mapping[str, str]:
    """Return what goes with a job from its enqueue to its run."""
    return {
        **trace_context(),
    }


WIRING: Final = Wiring(
    metadata=metadata,
    around=(job_span,),
    defaults={
        "notify_new_product": Defaults(queue="notifications"),
        "reserve_stock": Defaults(queue="default"),
    },
)
