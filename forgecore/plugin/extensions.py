"""What plugins add to the schema: sections, tables, keys and field types, each of one owner."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast, get_type_hints

import attrs
from attrs import evolve, frozen

from forgecore.diagnostics import Diagnostic
from forgecore.ir import Code, FieldType, FieldTypeError
from forgecore.plugin.artefacts import FieldOptions, ResourceOptions
from forgecore.plugin.host import Answer, Plugin


@frozen(kw_only=True)
class Extensions:
    """What plugins add to the schema: tables of a resource, keys of a field, types.

    `complete`: every plugin is open. Otherwise an unknown word may be one of a missing plugin.
    """

    complete: bool
    tables: Mapping[str, type]
    keys: Sequence[type]
    types: Mapping[str, FieldType]


class _Owners:
    """Who declared a name first; whoever declares it again is a diagnostic."""

    def __init__(self, what: str, core: Iterable[str]) -> None:
        self._what = what
        self._owners = dict.fromkeys(core, "the core")
        self.diagnostics: list[Diagnostic] = []

    def claim(self, name: str, plugin: Plugin) -> bool:
        if owner := self._owners.get(name):
            text = f"{self._what} `{name}` is declared by {owner} and by {plugin.label}"
            self.diagnostics.append(Diagnostic("duplicate", None, text))
            return False
        self._owners[name] = plugin.label
        return True


def sections_of(
    answers: Sequence[Answer[type]], core: Iterable[str]
) -> tuple[dict[str, type], list[Diagnostic]]:
    """Return the sections of forge.toml by plugin; `core` are the names of the core's own."""
    owners = _Owners("the section", core)
    faults: list[Diagnostic] = []
    sections: dict[str, type] = {}
    for plugin, cls in ((answer.plugin, answer.value) for answer in answers):
        if found := list(_unusable(plugin, "forgecore_config", cls)):
            faults += found
        elif owners.claim(plugin.name, plugin):
            sections[plugin.name] = cls
    return sections, [*faults, *owners.diagnostics]


def extensions_of(
    options: Sequence[Answer[Any]],
    types: Sequence[Answer[FieldType]],
    core: tuple[Iterable[str], Iterable[str]],
    *,
    complete: bool,
) -> tuple[Extensions, list[Diagnostic]]:
    """Bring together what plugins add; `core` are the tables and the keys of the core itself."""
    of_tables = _Owners("the table", core[0])
    of_keys = _Owners("the key", core[1])
    of_types = _Owners("the field type", ())
    faults: list[Diagnostic] = []
    tables: dict[str, type] = {}
    keys: list[type] = []
    answered: list[tuple[Plugin, ResourceOptions | FieldOptions]]
    answered = [(answer.plugin, answer.value) for answer in options]
    for plugin, value in answered:
        if found := list(_unusable(plugin, "forgecore_options", value.cls)):
            faults += found
        elif isinstance(value, ResourceOptions):
            if of_tables.claim(value.key, plugin):
                tables[value.key] = value.cls
        else:
            names = [attribute.name for attribute in attrs.fields(cast("Any", value.cls))]
            if not [name for name in names if not of_keys.claim(name, plugin)]:
                keys.append(value.cls)
    kinds = {
        answer.value.name: _guarded(answer)
        for answer in types
        if of_types.claim(answer.value.name, answer.plugin)
    }
    faults += [*of_tables.diagnostics, *of_keys.diagnostics, *of_types.diagnostics]
    extensions = Extensions(complete=complete and not faults, tables=tables, keys=keys, types=kinds)
    return extensions, faults


def _unusable(plugin: Plugin, hook: str, cls: type) -> Iterable[Diagnostic]:
    if not attrs.has(cls):
        text = f"{plugin.label}: {hook} gave {cls.__name__}, which is no attrs class"
        yield Diagnostic("plugin-failed", None, text)
        return
    try:
        get_type_hints(cls)
    except Exception as error:  # noqa: BLE001 -- whatever a plugin's annotations raise
        text = f"{plugin.label}: {hook} gave {cls.__name__}, whose annotations raise {error!r}"
        yield Diagnostic("plugin-failed", None, text)


def _guarded(answer: Answer[FieldType]) -> FieldType:
    """Return the field type with callables that raise FieldTypeError, which names the plugin."""
    kind = answer.value
    owner = f"{answer.plugin.label}: field type `{kind.name}`"

    def guard(name: str, wanted: type | tuple[type, ...], *passed: type[Exception]) -> Any:  # noqa: ANN401
        call: Callable[..., object] = getattr(kind, name)

        def guarded_call(*arguments: object) -> object:
            try:
                given = call(*arguments)
            except passed:
                raise
            except Exception as error:
                raise FieldTypeError(f"{owner}: `{name}` raised {error!r}") from error
            if not isinstance(given, wanted):
                text = f"{owner}: `{name}` gave {type(given).__name__}"
                raise FieldTypeError(text)
            return given

        return guarded_call

    return evolve(
        kind,
        owner=owner,
        python=guard("python", Code),
        sql=guard("sql", str),
        rule=guard("rule", Code),
        value=guard("value", object, ValueError),
        check=guard("check", (str, type(None))),
    )
