"""Artefacts -> Plan: every file with one owner, every slot's fragments in order."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from attrs import frozen

from forgecore.diagnostics import Diagnostic
from forgecore.ir import Import
from forgecore.names import near
from forgecore.plugin.artefacts import Fragment, GeneratedFile, ScaffoldFile
from forgecore.plugin.host import Answer, Plugin

_PART: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[a-z]+)?")

_LONGEST: Final = 200
"""Characters of a file's name: the folders of the staged write add some of their own."""


@frozen(kw_only=True)
class Standing:
    """What is there without having been asked for: of resources in which nothing has changed.

    `paths` are their files, `declared` the slots of these, `filled` the slots that they fill.
    """

    paths: tuple[tuple[str, Plugin], ...] = ()
    resources: frozenset[str] = frozenset()
    declared: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()


NOTHING: Final = Standing()


@frozen(kw_only=True)
class PlannedFile:
    """A generated file, its owner, and the fragments of its slots.

    `of` is the resource that it was asked for, if it was asked for one.
    """

    plugin: Plugin
    file: GeneratedFile
    fragments: Mapping[str, Sequence[Answer[Fragment]]]
    of: str | None = None

    @property
    def answers(self) -> list[Answer[Fragment]]:
        """The fragments of all its slots."""
        return [answer for group in self.fragments.values() for answer in group]

    @property
    def imports(self) -> list[Import]:
        """What the file and its fragments import."""
        return [*self.file.imports, *(i for one in self.answers for i in one.value.imports)]


@frozen(kw_only=True)
class Plan:
    """What a build is going to render."""

    files: tuple[PlannedFile, ...]
    scaffolds: tuple[Answer[ScaffoldFile], ...]


def plan(
    files: Sequence[Answer[GeneratedFile]],
    fragments: Sequence[Answer[Fragment]],
    scaffolds: Sequence[Answer[ScaffoldFile]],
    attributes: Mapping[str, Collection[str]],
    standing: Standing = NOTHING,
) -> tuple[Plan, list[Diagnostic]]:
    """Bring what the plugins gave together; conflicts are diagnostics.

    `attributes`: what each resource's statements have as parameters of their own.
    """
    diagnostics = [
        *_bad_paths(files, "gen"),
        *_bad_paths(scaffolds, "resources"),
        *_two_owners(
            [
                *standing.paths,
                *((answer.value.path, answer.plugin) for answer in files),
                *((answer.value.path, answer.plugin) for answer in scaffolds),
            ]
        ),
        *_unknown_slots(files, fragments, standing),
        *_doubtful_conditions(fragments),
        *_hidden_parameters(fragments, attributes),
        *_unreadable_parameters(fragments),
    ]
    by_place: dict[tuple[str, str | None], list[Answer[Fragment]]] = {}
    for answer in _counted(files, fragments, standing):
        place = (answer.value.slot, answer.value.resource)
        by_place.setdefault(place, []).append(answer)
    order = {id(answer): number for number, answer in enumerate(fragments)}

    def of_slot(slot: str, resource: str | None) -> tuple[Answer[Fragment], ...]:
        found = [*by_place.get((slot, None), [])]
        found += by_place.get((slot, resource), []) if resource is not None else []
        return tuple(sorted(found, key=lambda answer: order[id(answer)]))

    planned = tuple(
        PlannedFile(
            plugin=answer.plugin,
            file=answer.value,
            of=answer.of,
            fragments={s.name: of_slot(s.name, answer.value.resource) for s in answer.value.slots},
        )
        for answer in files
    )
    diagnostics += _shared_slots(planned)
    return Plan(files=planned, scaffolds=tuple(scaffolds)), diagnostics


def declared_slots(files: Iterable[Answer[GeneratedFile]]) -> frozenset[str]:
    """Return the slots that files declare."""
    return frozenset(slot.name for file in files for slot in file.value.slots)


def filled_slots(fragments: Iterable[Answer[Fragment]]) -> frozenset[str]:
    """Return the slots that fragments fill whatever else is filled."""
    values = (answer.value for answer in fragments)
    return frozenset(one.slot for one in values if one.when is None and one.unless is None)


def _shared_slots(planned: Iterable[PlannedFile]) -> Iterator[Diagnostic]:
    for one in planned:
        for slot in one.file.slots:
            plugins = list(dict.fromkeys(answer.plugin.name for answer in one.fragments[slot.name]))
            if slot.exclusive and len(plugins) > 1:
                labels = {answer.plugin.name: answer.plugin.label for answer in one.answers}
                by = " and by ".join(labels[name] for name in plugins)
                text = (
                    f"the slot `{slot.name}` of {one.file.path} is for one, and is filled by {by}"
                )
                yield Diagnostic("slot-conflict", None, text)


def _bad_paths(
    answers: Iterable[Answer[GeneratedFile] | Answer[ScaffoldFile]], folder: str
) -> Iterator[Diagnostic]:
    for answer in answers:
        path = PurePosixPath(answer.value.path)
        good = len(path.parts) > 1 and path.parts[0] == folder and str(path) == answer.value.path
        if not good or not all(_is_part(part) for part in path.parts):
            text = (
                f"{answer.plugin.label} may not write `{answer.value.path}`: "
                f"a path below {folder}/ is expected"
            )
            yield Diagnostic("bad-path", None, text)


def _is_part(part: str) -> bool:
    return _PART.fullmatch(part) is not None and len(part) <= _LONGEST


def _two_owners(given: Sequence[tuple[str, Plugin]]) -> Iterator[Diagnostic]:
    owners: dict[str, Plugin] = {}
    for path, plugin in given:
        # A file system may not tell cases apart.
        folded = path.lower()
        if (owner := owners.get(folded)) is not None:
            by = f"{owner.label} and by {plugin.label}"
            by = f"{owner.label}, twice" if owner is plugin else by
            yield Diagnostic("path-conflict", None, f"`{path}` is written by {by}")
        owners[folded] = plugin
    for path, plugin in given:
        folder = path.lower()
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if (owner := owners.get(folder)) is not None:
                text = (
                    f"`{path}` of {plugin.label} stands below `{folder}`, "
                    f"which is a file of {owner.label}"
                )
                yield Diagnostic("path-conflict", None, text)


def _unknown_slots(
    files: Iterable[Answer[GeneratedFile]],
    fragments: Iterable[Answer[Fragment]],
    standing: Standing,
) -> Iterator[Diagnostic]:
    declared = declared_slots(files) | standing.declared
    resources = {answer.value.resource for answer in files} | standing.resources
    for answer in fragments:
        fragment = answer.value
        if fragment.slot not in declared and not fragment.optional:
            text = f"{answer.plugin.label}: nobody declares the slot `{fragment.slot}`"
            yield Diagnostic("unknown-slot", None, text, near(fragment.slot, declared))
        elif fragment.resource is not None and fragment.resource not in resources:
            text = f"{answer.plugin.label}: there is no resource `{fragment.resource}`"
            yield Diagnostic("unknown-resource", None, text)


def _doubtful_conditions(fragments: Sequence[Answer[Fragment]]) -> Iterator[Diagnostic]:
    asked = {f.value.when for f in fragments} | {f.value.unless for f in fragments}
    for answer in fragments:
        fragment = answer.value
        if fragment.slot in asked and (fragment.when or fragment.unless):
            text = (
                f"{answer.plugin.label}: a fragment for `{fragment.slot}` cannot depend on another"
                " slot, since others depend on this one"
            )
            yield Diagnostic("bad-fragment", None, text)


def _hidden_parameters(
    fragments: Iterable[Answer[Fragment]], attributes: Mapping[str, Collection[str]]
) -> Iterator[Diagnostic]:
    for answer in fragments:
        resources = [answer.value.resource] if answer.value.resource else list(attributes)
        for resource in resources:
            for name in sorted(set(answer.value.params) & set(attributes.get(resource, ()))):
                text = f"{answer.plugin.label}: its parameter `{name}` would hide {resource}'s own"
                yield Diagnostic("bad-fragment", None, text)


def _unreadable_parameters(fragments: Iterable[Answer[Fragment]]) -> Iterator[Diagnostic]:
    for answer in fragments:
        for name, text in answer.value.params.items():
            try:
                ast.parse(text, mode="eval")
            except (SyntaxError, ValueError) as error:
                said = f"its parameter `{name}` is no Python expression: {text} ({error})"
                yield Diagnostic("bad-fragment", None, f"{answer.plugin.label}: {said}")


def _counted(
    files: Iterable[Answer[GeneratedFile]],
    fragments: Sequence[Answer[Fragment]],
    standing: Standing,
) -> list[Answer[Fragment]]:
    declared = declared_slots(files) | standing.declared
    filled = (standing.filled | filled_slots(fragments)) & declared
    return [
        answer
        for answer in fragments
        if (answer.value.when is None or answer.value.when in filled)
        and (answer.value.unless is None or answer.value.unless not in filled)
    ]
