"""Gather: what plugins give for a schema, but for the resources that are settled."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen

from forgecore.diagnostics import Diagnostic
from forgecore.ir import IR
from forgecore.memory import KeptFile, Memory, Settled, fingerprint, is_on_disk
from forgecore.plugin.artefacts import Fragment, GeneratedFile, ScaffoldFile
from forgecore.plugin.contexts import FragmentsContext, RenderContext, ScaffoldContext
from forgecore.plugin.host import Answer, Host
from forgecore.remembered import hashed
from forgecore.render.files import Rendered
from forgecore.render.plan import Standing, declared_slots, filled_slots


@frozen(kw_only=True)
class Gathered:
    """What plugins gave, and the resources of which nobody was asked.

    `around` is, for each resource, the digest of the fragments that come from elsewhere.
    """

    files: Sequence[Answer[GeneratedFile]]
    fragments: Sequence[Answer[Fragment]]
    scaffolds: Sequence[Answer[ScaffoldFile]]
    settled: Mapping[str, Settled]
    around: Mapping[str, str]

    @property
    def kept_files(self) -> list[KeptFile]:
        """The files of settled resources."""
        return [file for one in self.settled.values() for file in one.files]

    def kept(self) -> list[Rendered]:
        """Return the files of settled resources as what is rendered: without their texts."""
        return [
            Rendered(
                path=file.path,
                text="",
                kind="gen",
                owner=file.owner,
                contributors=file.contributors,
                kept=file.digest,
            )
            for file in self.kept_files
        ]

    def came_to(
        self,
        memory: Memory,
        rendered: Iterable[Rendered],
        unclean: Collection[str],
        written: Callable[[str], KeptFile],
    ) -> dict[str, Settled]:
        """Return what each resource came to; `written` gives a file as it was written."""
        new = {name: _Own() for name in self.around if name not in self.settled}
        for file in self.files:
            if file.of is not None:
                new[file.of].declared |= {slot.name for slot in file.value.slots}
        for fragment in self.fragments:
            if fragment.of is not None:
                new[fragment.of].fragments.append(fragment)
        for scaffold in self.scaffolds:
            if scaffold.of is not None:
                new[scaffold.of].scaffolds.append((scaffold.value.path, scaffold.plugin.name))
        for one in rendered:
            if one.of is not None and one.kind == "gen":
                new[one.of].files.append(written(one.path))
        return {
            **self.settled,
            **{
                name: Settled(
                    key=memory.key(name),
                    around=self.around[name],
                    files=tuple(own.files),
                    scaffolds=tuple(own.scaffolds),
                    declared=frozenset(own.declared),
                    targets=frozenset(answer.value.slot for answer in own.fragments),
                    needed=frozenset(
                        answer.value.slot for answer in own.fragments if not answer.value.optional
                    ),
                    filled=filled_slots(own.fragments),
                    is_clean=name not in unclean,
                )
                for name, own in new.items()
            },
        }

    def standing(self, host: Host) -> Standing:
        """Return what the plan must know of settled resources."""
        plugins = {plugin.name: plugin for plugin in host.plugins}
        paths = [(file.path, file.owner) for one in self.settled.values() for file in one.files]
        paths += [pair for one in self.settled.values() for pair in one.scaffolds]
        return Standing(
            paths=tuple((path, plugins[owner]) for path, owner in paths),
            resources=frozenset(self.settled),
            declared=frozenset(s for one in self.settled.values() for s in one.declared),
            filled=frozenset(s for one in self.settled.values() for s in one.filled),
        )


def gather(
    host: Host, contexts: "Contexts", ir: IR, memory: Memory, folder: Path
) -> tuple[Gathered, list[Diagnostic]]:
    """Ask the plugins for files, fragments and scaffolds.

    A settled resource is asked about after all where another fragment comes to its slots, or
    where its fragments go to a file that is of no resource.
    """
    found = {one.name: memory.settled(one.name) for one in ir.resources}
    settled = {name: s for name, s in found.items() if s and is_on_disk(folder, s.files)}
    while True:
        asked = [resource for resource in ir.resources if resource.name not in settled]
        files, failures = host.call(
            "forgecore_render", contexts.render, GeneratedFile, contexts.render.each(asked)
        )
        fragments, more = host.call(
            "forgecore_fragments", contexts.fragments, Fragment, contexts.fragments.each(asked)
        )
        failures += more
        scaffolds, more = host.call(
            "forgecore_scaffold", contexts.scaffold, ScaffoldFile, contexts.scaffold.each(asked)
        )
        failures += more
        shared = declared_slots(file for file in files if file.of is None)
        declared = declared_slots(files).union(*(one.declared for one in settled.values()))
        around = _around([one.name for one in ir.resources], declared, fragments, settled)
        left = {
            name: one
            for name, one in settled.items()
            if one.around == around[name] and not one.targets & shared and one.needed <= declared
        }
        if len(left) == len(settled):
            break
        settled = left
    gathered = Gathered(
        files=files, fragments=fragments, scaffolds=scaffolds, settled=settled, around=around
    )
    return gathered, failures


@define
class _Own:
    """What was asked for a resource, as it is collected."""

    files: list[KeptFile] = field(factory=list[KeptFile])
    fragments: list[Answer[Fragment]] = field(factory=list[Answer[Fragment]])
    scaffolds: list[tuple[str, str]] = field(factory=list[tuple[str, str]])
    declared: set[str] = field(factory=set[str])


@frozen(kw_only=True)
class Contexts:
    """The contexts of the hookspecs that give artefacts."""

    render: RenderContext
    fragments: FragmentsContext
    scaffold: ScaffoldContext


def _around(
    names: Iterable[str],
    declared: frozenset[str],
    fragments: Sequence[Answer[Fragment]],
    settled: Mapping[str, Settled],
) -> dict[str, str]:
    """Return, for each resource, a digest of what comes to its slots from elsewhere.

    That is which slots are filled at all, and the fragments that were given for no resource in
    particular or for all in one call.
    """
    filled = filled_slots(fragments).union(*(one.filled for one in settled.values())) & declared
    shared: list[str] = []
    own: dict[str, list[str]] = {}
    for answer in fragments:
        if answer.of is not None:
            continue
        text = f"{answer.plugin.name} {fingerprint(answer.value)}"
        if answer.value.resource is None:
            shared.append(text)
        else:
            # Fragments stand in a slot in the order in which they were given.
            own.setdefault(answer.value.resource, []).append(f"{len(shared)} {text}")
    common = [*sorted(filled), "", *shared]
    of_all = hashed(common)
    return {name: hashed([of_all, *own[name]]) if name in own else of_all for name in names}
