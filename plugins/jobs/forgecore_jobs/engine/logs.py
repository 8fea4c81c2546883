"""Log lines: one JSON object each in production or off a terminal, coloured text on one."""

import logging
import os
import sys

import structlog


def configure_logs() -> None:
    """Set structlog up, unless the application has done so."""
    if structlog.is_configured():
        return
    for_people = sys.stderr.isatty() and os.environ.get("FORGE_ENV") != "production"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if for_people:
        colors = "NO_COLOR" not in os.environ
        shared.append(structlog.dev.ConsoleRenderer(colors=colors))
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
