"""OpenTelemetry: one trace from an action to the job that it enqueued."""

from forgecore_otel.spans import job_span, trace_context, traced

__all__ = ["job_span", "trace_context", "traced"]
