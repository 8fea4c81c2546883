"""Diagnostics and differences in the forms that machines read: JSON, GitHub's, SARIF."""

import json
from collections.abc import Sequence
from typing import Any, Final

from forgecore import __version__
from forgecore.diagnostics import CODES, Diagnostic
from forgecore.write.compare import STATES, Difference

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def found_of(difference: Difference) -> Diagnostic:
    """Return a file that is not as it should be, as a diagnostic without a line."""
    return Diagnostic(
        f"gen-{difference.state}", None, f"{difference.shown} {STATES[difference.state]}"
    )


def as_json(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """Return diagnostics as JSON has them."""
    return [
        {
            "code": one.code,
            "severity": one.severity,
            "text": one.text,
            "suggestion": one.suggestion,
            "file": one.span.source.path if one.span else None,
            "line": one.span.line if one.span else None,
            "column": one.span.column if one.span else None,
        }
        for one in diagnostics
    ]


def as_github(diagnostics: Sequence[Diagnostic], files: Sequence[Difference] = ()) -> str:
    """Return workflow commands, which GitHub shows at the lines that they name."""
    lines = [_command(one, _place_of(one)) for one in diagnostics]
    lines += [_command(found_of(one), f"file={one.shown},") for one in files]
    return "\n".join(lines)


def as_sarif(diagnostics: Sequence[Diagnostic], files: Sequence[Difference] = ()) -> str:
    """Return a SARIF log of one run."""
    results = [_result(one, one.span.source.path if one.span else None) for one in diagnostics]
    results += [_result(found_of(one), one.shown) for one in files]
    rules: list[dict[str, Any]] = [
        {"id": code, "shortDescription": {"text": CODES.get(code, code)}}
        for code in sorted({result["ruleId"] for result in results})
    ]
    driver = {"name": "forgecore", "version": __version__, "rules": rules}
    runs = [{"tool": {"driver": driver}, "results": results}]
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}
    return json.dumps(log, indent=2)


def _place_of(one: Diagnostic) -> str:
    if one.span is None:
        return ""
    return f"file={one.span.source.path},line={one.span.line},col={one.span.column},"


def _command(one: Diagnostic, place: str) -> str:
    text = one.text + (f"; did you mean `{one.suggestion}`?" if one.suggestion else "")
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{one.severity} {place}title={one.code}::{escaped}"


def _result(one: Diagnostic, path: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": one.code,
        "level": one.severity,
        "message": {"text": one.text},
    }
    if path is not None:
        where: dict[str, Any] = {"artifactLocation": {"uri": path}}
        if one.span is not None:
            where["region"] = {
                "startLine": one.span.line,
                "startColumn": one.span.column,
                "endColumn": one.span.end_column,
            }
        result["locations"] = [{"physicalLocation": where}]
    return result
