"""A section of forge.toml and of the environment as an attrs class.

The build and the runtime read settings here, so both refuse the same. The environment
wins over the file and replaces the whole value: FORGE_<SECTION>_<KEY>.
"""

import keyword
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from attrs import NOTHING, Attribute, field, fields, frozen, has, validators

from forgecore.location import find_project
from forgecore.runtime.errors import FieldError, SettingsError

S = TypeVar("S")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"0", "false", "no", "off"}


def _importable(_settings: object, _attribute: "Attribute[Any]", name: str) -> None:
    parts = name.split(".") if name else []
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        raise ValueError("must be a name that Python can import, with dots between its parts")


def _some_time(_settings: object, attribute: "Attribute[Any]", time: timedelta) -> None:
    if not timedelta(0) < time <= timedelta(days=1):
        raise ValueError(f"'{attribute.name}' must be more than nothing, and a day at most")


@frozen(kw_only=True)
class ProjectSettings:
    """[project]: what the project is called and which plugins it uses.

    `plugin_timeout` is how long a plugin may take for one answer.
    """

    name: str = field(default="", validator=_importable)
    package: str = field(default="", validator=_importable)
    plugins: tuple[str, ...] | None = None
    plugin_timeout: timedelta = field(default=timedelta(seconds=60), validator=_some_time)


@frozen(kw_only=True)
class DatabaseSettings:
    """[database]: where it is, how many connections a process keeps, whether it prepares."""

    url: str = field(default="embedded", validator=validators.min_len(1))
    pool: int = field(default=10, validator=validators.ge(1))
    prepare: bool = True


@frozen
class Problem:
    """What is wrong with one key of a section. `key` is the path below the section."""

    key: tuple[str, ...]
    text: str
    unknown: bool = False


def parse_duration(text: str) -> timedelta:
    """Return the time that `text` says, such as 30s, 5m or 2h; ValueError if it says none."""
    if not (match := _DURATION.fullmatch(text.strip())):
        raise ValueError('must be a duration, such as "30s", "5m" or "2h"')
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError("a duration cannot be that long") from None


def structure(cls: type[S], table: Mapping[str, object]) -> tuple[S | None, list[Problem]]:
    """Make a `cls` of a section's values; every key at fault is a problem."""
    problems: list[Problem] = []
    values: dict[str, object] = {}
    known = {attribute.name: attribute for attribute in _fields(cls)}
    hints = get_type_hints(cls)
    for key, value in table.items():
        if key not in known:
            problems.append(Problem((key,), f"unknown key `{key}`", unknown=True))
            continue
        try:
            values[key] = _valid(known[key], hints[key], value)
        except _ValueProblem as error:
            problems.extend(Problem((key, *path), text) for path, text in error.found)
    problems.extend(
        Problem((), f"`{name}` is missing")
        for name, attribute in known.items()
        if attribute.default is NOTHING and name not in table
    )
    return (None if problems else cls(**values)), problems


def from_environment(
    cls: type[S], section: str, environ: Mapping[str, str]
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Return the values that the environment sets, and (variable, what is wrong) of each fault."""
    values: dict[str, object] = {}
    problems: list[tuple[str, str]] = []
    hints = get_type_hints(cls)
    for attribute in _fields(cls):
        variable = variable_name(section, attribute.name)
        if (text := environ.get(variable)) is None:
            continue
        try:
            value = _valid(attribute, hints[attribute.name], text, parse_text)
        except _ValueProblem as error:
            for path, text in error.found:
                where = f"`{'.'.join(path)}` " if path else ""
                problems.append((variable, f"{where}{text}"))
        else:
            values[attribute.name] = value
    return values, problems


def variable_name(section: str, key: str) -> str:
    """Return the environment variable of a key."""
    return f"FORGE_{section}_{key}".upper()


def parse_text(hint: Any, text: str) -> object:  # noqa: ANN401 -- a type, of whatever kind
    """Return the value that `text` of the environment stands for, by the attribute's type."""
    hint = _without_none(hint)
    origin = get_origin(hint)
    if hint is bool:
        if (word := text.strip().lower()) in _TRUE | _FALSE:
            return word in _TRUE
        raise _ValueProblem("must be true or false")
    if hint is int or hint is float:
        try:
            return hint(text)
        except ValueError:
            word = "a whole number" if hint is int else "a number"
            raise _ValueProblem(f"must be {word}") from None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if origin in {tuple, list}:
        return [parse_text(get_args(hint)[0], part) for part in parts]
    if _is_mapping(origin):
        return _parse_pairs(get_args(hint)[1], parts)
    return text


def _parse_pairs(inner: Any, parts: list[str]) -> dict[str, object]:  # noqa: ANN401
    values: dict[str, object] = {}
    found: list[tuple[tuple[str, ...], str]] = []
    for key, equals, text in (part.partition("=") for part in parts):
        if not equals:
            found.append(((key,), "must be written name=value"))
            continue
        try:
            values[key.strip()] = parse_text(inner, text.strip())
        except _ValueProblem as error:
            found.extend(((key.strip(), *path), said) for path, said in error.found)
    if found:
        raise _ValueProblem(found=found, rest=values)
    return values


def read_section(cls: type[S], section: str) -> S:
    """Return a section as forge.toml and the environment have it; SettingsError names every fault.

    Without a forge.toml the environment and the defaults are all there is.
    """
    project = find_project()
    table: Mapping[str, object] = {}
    problems: list[tuple[str, str]] = []
    if project is not None:
        path = project / "forge.toml"
        try:
            stamp = path.stat().st_mtime_ns
            found: object = _read_file(path, stamp).get(section, {})
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from error
        if not isinstance(found, Mapping):
            raise SettingsError(f"{path}: [{section}] must be a table")
        table = cast("Mapping[str, object]", found)
    from_file, file_problems = structure(cls, table)
    problems += [(".".join((section, *p.key)), p.text) for p in file_problems]
    from_env, env_problems = from_environment(cls, section, os.environ)
    # What the environment replaces may be wrong in the file: it is not used.
    replaced = {f"{section}.{key}" for key in from_env}
    problems = [p for p in problems if not any(p[0].startswith(key) for key in replaced)]
    problems += env_problems
    if problems:
        summary = "; ".join(f"{where}: {text}" for where, text in problems)
        raise SettingsError(
            summary, [FieldError(where, "setting", text) for where, text in problems]
        )
    if from_file is None:
        remaining = {key: value for key, value in table.items() if key not in from_env}
        from_file, _ = structure(cls, remaining)
    return _evolved(cls, cast("S", from_file), from_env)


def project_package() -> str:
    """Return the import package of the project; SettingsError outside of any."""
    settings = read_section(ProjectSettings, "project")
    if settings.package or settings.name:
        return settings.package or settings.name
    if (project := find_project()) is None:
        raise SettingsError(
            "there is no forge.toml here or above: set FORGE_PROJECT_DIR or FORGE_PROJECT_PACKAGE"
        )
    return snake_name(project.name)


def snake_name(text: str) -> str:
    """Return `text` in snake_case, as a project without a name is called after its folder."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    name = re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower()
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"project_{name}"


class LimitError(ValueError):
    """What a settings validator raises: each fault by the key below the attribute's own."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{key} {text}" for key, text in faults.items()))
        self.faults = dict(faults)


class _ValueProblem(Exception):  # noqa: N818 -- never leaves this module
    def __init__(
        self,
        text: str = "",
        found: Iterable[tuple[tuple[str, ...], str]] = (),
        rest: object = None,
    ) -> None:
        super().__init__(text)
        self.found = list(found) or [((), text)]
        self.rest = rest


@lru_cache(maxsize=4)
def _read_file(path: Path, stamp: int) -> dict[str, Any]:  # noqa: ARG001 -- part of the key
    return tomllib.loads(path.read_text(encoding="utf-8-sig"))


def _fields(cls: type) -> tuple["Attribute[Any]", ...]:
    return cast("tuple[Attribute[Any], ...]", fields(cast("Any", cls)))


def _evolved(cls: type[S], base: S, changes: Mapping[str, object]) -> S:
    values = {attribute.name: getattr(base, attribute.name) for attribute in _fields(cls)}
    return cls(**{**values, **changes})


def _without_none(hint: Any) -> Any:  # noqa: ANN401
    if get_origin(hint) in {Union, UnionType}:
        rest = [part for part in get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def _is_mapping(origin: Any) -> bool:  # noqa: ANN401
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _convert(hint: Any, value: object) -> object:  # noqa: ANN401
    hint = _without_none(hint)
    origin = get_origin(hint)
    match value:
        case _ if hint is Any:
            return value
        case Mapping() if isinstance(hint, type) and has(hint):
            made, problems = structure(hint, cast("Mapping[str, object]", value))
            if problems:
                raise _ValueProblem(found=[(problem.key, problem.text) for problem in problems])
            return made
        case bool() if hint is bool:
            return value
        case bool():
            pass
        case str() if hint is timedelta:
            try:
                return parse_duration(value)
            except ValueError as error:
                raise _ValueProblem(str(error)) from None
        case str() if hint is str or (origin is Literal and value in get_args(hint)):
            return value
        case int() if hint is int:
            return value
        case int() | float() if hint is float:
            return float(value)
        case list() if origin is tuple:
            inner = get_args(hint)[0]
            items = enumerate(cast("list[object]", value))
            try:
                return tuple(_each(inner, [(str(index), item) for index, item in items]).values())
            except _ValueProblem as error:
                # What is left of a list is no such list: nothing is said of its limits.
                raise _ValueProblem(found=error.found) from None
        case Mapping() if _is_mapping(origin):
            inner = get_args(hint)[1]
            pairs = cast("Mapping[str, object]", value)
            return _each(inner, list(pairs.items()))
        case _:
            pass
    raise _ValueProblem(f"must be {describe(hint)}")


def _valid(
    attribute: "Attribute[Any]",
    hint: Any,  # noqa: ANN401
    value: Any,  # noqa: ANN401
    parse: Callable[[Any, Any], object] = lambda _hint, value: value,
) -> object:
    try:
        converted = _convert(hint, parse(hint, value))
    except _ValueProblem as error:
        # What could be converted may be out of its limits: that is said in the same run.
        if error.rest is not None:
            try:
                _validate(attribute, error.rest)
            except _ValueProblem as more:
                raise _ValueProblem(found=[*error.found, *more.found]) from None
        raise
    _validate(attribute, converted)
    return converted


def _each(hint: Any, pairs: list[tuple[str, object]]) -> dict[str, object]:  # noqa: ANN401
    values: dict[str, object] = {}
    found: list[tuple[tuple[str, ...], str]] = []
    for key, value in pairs:
        try:
            values[key] = _convert(hint, value)
        except _ValueProblem as error:
            found.extend(((key, *path), text) for path, text in error.found)
    if found:
        raise _ValueProblem(found=found, rest=values)
    return values


def describe(hint: Any) -> str:  # noqa: ANN401
    """Return what a value of this type is called in a message."""
    hint = _without_none(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(f'"{value}"' for value in get_args(hint))
    if origin in {tuple, list}:
        return "a list"
    if _is_mapping(origin):
        return "a table"
    words = {
        str: "a string",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        timedelta: 'a duration such as "30s", "5m" or "2h"',
    }
    return words.get(hint, "a table")


def _validate(attribute: "Attribute[Any]", value: object) -> None:
    if attribute.validator is None or value is None:
        return
    try:
        attribute.validator(cast("Any", None), attribute, value)
    except LimitError as error:
        raise _ValueProblem(found=[((key,), text) for key, text in error.faults.items()]) from None
    except (ValueError, TypeError) as error:
        raise _ValueProblem(_plain(attribute, error)) from None


def _plain(attribute: "Attribute[Any]", error: Exception) -> str:
    # attrs words it as "'pool' must be >= 1: 0".
    text = str(error.args[0]) if error.args else str(error)
    return said_limit(text.removeprefix(f"'{attribute.name}' "))


def said_limit(text: str) -> str:
    """Return what attrs says of a limit in plain words, without the value."""
    words = re.sub(r"^(must be [<>]=? \S+): .*", r"\1", text, flags=re.DOTALL)
    return words.replace(">= ", "at least ").replace("<= ", "at most ")
