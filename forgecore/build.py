"""The pipeline of a build: the stages in order, and nothing else."""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from attrs import evolve, frozen

from forgecore import __version__
from forgecore.config import CORE_SECTIONS, Config, check_environment
from forgecore.diagnostics import Diagnostic, errors, ordered
from forgecore.gather import Contexts, Gathered, gather
from forgecore.ir import IR, FieldType, Origins, Resource
from forgecore.memory import KeptFile, Memory, is_on_disk, stat_of
from forgecore.names import near
from forgecore.plugin.artefacts import (
    Edge,
    FieldOptions,
    ResourceOptions,
    SchemaChange,
)
from forgecore.plugin.border import TookTooLong, guarded
from forgecore.plugin.contexts import (
    CheckContext,
    ConfigContext,
    DiffContext,
    FieldTypesContext,
    FragmentsContext,
    GraphContext,
    OptionsContext,
    RenderContext,
    ScaffoldContext,
    SchemaContext,
    TransformContext,
)
from forgecore.plugin.extensions import Extensions, extensions_of, sections_of
from forgecore.plugin.host import Host, Plugin, installed, open_host, where
from forgecore.private import private_folder
from forgecore.remembered import (
    Inputs,
    hashed,
    of_environment,
    of_installation,
    stats,
    write_cached,
)
from forgecore.render.files import Rendered
from forgecore.render.files import render as render_files
from forgecore.render.plan import Plan, plan
from forgecore.runtime.settings import ProjectSettings
from forgecore.schema.check import check_each, check_together
from forgecore.schema.editor import config_schema, resource_schema
from forgecore.schema.load import Documents, load
from forgecore.schema.structure import (
    OWN_KEYS,
    OWN_TABLES,
    plugin_names,
    project_names,
    structure_config,
    structure_ir,
)
from forgecore.source import Span
from forgecore.times import spent
from forgecore.write.compare import Difference, content, differences, head_differences
from forgecore.write.format import Formatter, formatter_version, remove_leftovers
from forgecore.write.manifest import Entry, Lock, digest_of
from forgecore.write.tree import (
    Change,
    Tree,
    compare,
    current_lock,
    locked,
    not_a_folder,
    publish,
    settle,
    unreadable,
)

ContextT = TypeVar("ContextT", bound=SchemaContext)
_IMPORTED: Final = frozenset({"attr", "attrs", "psycopg", "psycopg_pool", "structlog"})
"""What generated code, and the runtime under it, import beside the standard library."""


class BuildError(Exception):
    """A build that stopped. `diagnostics` say why; nothing was written."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(f"{len(diagnostics)} diagnostics")
        self.diagnostics = ordered(diagnostics)


@frozen(kw_only=True)
class Opened:
    """A project whose forge.toml was read, as far as it is sound, and whose plugins are open.

    `complete`: every plugin that forge.toml names is among them.
    """

    project: Path
    documents: Documents
    host: Host
    config: Config
    settings: ProjectSettings
    sections: Mapping[str, type]
    complete: bool
    diagnostics: tuple[Diagnostic, ...]


@frozen(kw_only=True)
class Structured:
    """A schema that is sound, as far as the core and the plugins check it."""

    opened: Opened
    ir: IR
    tree: Tree
    extensions: Extensions
    common: "Common"
    formatter: Formatter
    memory: Memory
    unclean: frozenset[str]
    diagnostics: tuple[Diagnostic, ...]


@frozen(kw_only=True)
class Output:
    """What a build makes, before it is written: texts by path relative to the package.

    `unclean` are the resources of which a check said something. Files that are kept have no text.
    """

    opened: Opened
    ir: IR
    tree: Tree
    extensions: Extensions
    plan: Plan
    files: tuple[Rendered, ...]
    gathered: Gathered
    unclean: frozenset[str]
    common: "Common"
    texts: Mapping[str, str]
    warnings: tuple[Diagnostic, ...]

    def of_kind(self, kind: str) -> dict[str, str]:
        """Return the texts of the generated, or of the scaffolded files."""
        return {
            file.path: self.texts[file.path]
            for file in self.files
            if file.kind == kind and file.kept is None
        }

    @property
    def total(self) -> int:
        """The number of generated files, those that are kept included."""
        return sum(file.kind == "gen" for file in self.files)

    @property
    def kept(self) -> frozenset[str]:
        """The paths of the files that stand on disk as they would be made."""
        return frozenset(file.path for file in self.files if file.kept is not None)


def builtin_plugin(name: str, module: ModuleType) -> Plugin:
    """Return a plugin that is part of this distribution."""
    return Plugin(name=name, distribution="forgecore", version=__version__, module=module)


def open_project(
    project: Path,
    builtin: Sequence[Plugin],
    without: Collection[str] = (),
    memory: Memory | None = None,
) -> Opened:
    """Read the files and open the plugins; what is wrong with either is in `diagnostics`.

    Plugins `without` are not imported; what the schema says to them is passed over.
    """
    memory = memory or Memory()
    memory.forget_files()
    with spent("stage", "load"):
        documents, diagnostics = load(project, memory.is_toml)
    document = documents.config
    names, complete = plugin_names(document)
    if without:
        known = tuple(installed()) if names is None else names
        diagnostics += [
            Diagnostic(
                "unknown-plugin", None, f"no plugin `{name}` to do without", near(name, known)
            )
            for name in without
            if name not in known
        ]
        names, complete = tuple(name for name in known if name not in without), False

    def place(name: str) -> Span | None:
        if document is None or not names or name not in names:
            return None
        return document.value_span(("project", "plugins", names.index(name)))

    with spent("stage", "plugins"):
        host, failures = open_host(names, builtin, place)
    answers, more = host.call("forgecore_config", ConfigContext(plugins=host.names), type)
    failures += more
    diagnostics += failures
    sections, faults = sections_of(answers, CORE_SECTIONS)
    diagnostics += faults
    complete = complete and not failures and not faults
    config, faults = structure_config(document, sections, complete=complete)
    diagnostics += faults
    diagnostics += check_environment({**CORE_SECTIONS, **sections}, os.environ)
    found = config.sections.get(ProjectSettings)
    settings = found if isinstance(found, ProjectSettings) else ProjectSettings()
    return Opened(
        project=project,
        documents=documents,
        host=evolve(host, timeout=settings.plugin_timeout),
        config=config,
        settings=settings,
        sections=sections,
        complete=complete,
        diagnostics=tuple(diagnostics),
    )


def structured(
    project: Path,
    builtin: Sequence[Plugin],
    without: Collection[str] = (),
    memory: Memory | None = None,
) -> Structured:
    """Run the stages that read the schema and judge it; BuildError with all that is wrong."""
    # Who only looks goes by nothing that an earlier run has left.
    is_remembered = memory is not None
    memory = memory or Memory()
    opened = open_project(project, builtin, without, memory)
    host = opened.host
    diagnostics = list(opened.diagnostics)
    extensions, failures = _extensions(opened)
    diagnostics += failures
    name, package = project_names(project, opened.settings)
    diagnostics += _hidden_module(opened, package)
    tree = Tree(project=project, package=package_folder(project, package))
    top = package.partition(".")[0]
    formatter = Formatter(tree.package, project, top, is_remembered=is_remembered)
    memory.begin(
        _parts(opened, tree, formatter),
        frozenset(plugin.module.__name__.partition(".")[0] for plugin in host.plugins),
    )
    with spent("stage", "structure"):
        ir, origins, faults = structure_ir(opened.documents, name, package, extensions, memory)
    diagnostics += faults
    # A resource that could not be structured is missing, not unknown.
    complete = opened.documents.complete and len(ir.resources) == len(opened.documents.resources)
    common = Common(opened.config, origins, opened.sections, host.names, tree.package)
    with spent("stage", "check"):
        ir, found, unclean = _checked(host, ir, common, memory, complete=complete)
    # What is missing may make a plugin stumble; why it is missing is said already.
    sound = not errors(diagnostics)
    diagnostics += [one for one in found if sound or one.code != "plugin-failed"]
    _stop_at_errors(diagnostics)
    return Structured(
        opened=opened,
        ir=ir,
        tree=tree,
        extensions=extensions,
        common=common,
        formatter=formatter,
        memory=memory,
        unclean=unclean,
        diagnostics=tuple(diagnostics),
    )


def make(
    project: Path,
    builtin: Sequence[Plugin],
    without: Collection[str] = (),
    *,
    scaffolds: bool = False,
    memory: Memory | None = None,
) -> Output:
    """Run every stage up to the format; BuildError with every diagnostic of the run.

    Without `scaffolds` those are planned and not rendered: a build does not write them. What
    `memory` knows to be on disk as it would be made is not made, and has no text.
    """
    known = structured(project, builtin, without, memory)
    host, ir, tree, common = known.opened.host, known.ir, known.tree, known.common
    diagnostics = list(known.diagnostics)
    contexts = Contexts(
        render=common.context(RenderContext, ir),
        fragments=common.context(FragmentsContext, ir),
        scaffold=common.context(ScaffoldContext, ir),
    )
    with spent("stage", "hooks"):
        gathered, failures = gather(host, contexts, ir, known.memory, tree.package)
    diagnostics += failures
    attributes = {
        resource.name: [
            "id",
            "tenant_id",
            *(field.name for field in resource.fields),
            *(relation.attribute for relation in resource.relations),
        ]
        for resource in ir.resources
    }
    with spent("stage", "plan"):
        planned, faults = plan(
            gathered.files,
            gathered.fragments,
            gathered.scaffolds,
            attributes,
            gathered.standing(host),
        )
    diagnostics += faults
    _stop_at_errors(diagnostics)
    if not scaffolds:
        planned = evolve(planned, scaffolds=())
    with spent("stage", "render"):
        origin_of = {resource.name: resource.origin for resource in ir.resources}
        rendered, faults = render_files(
            planned,
            lambda name: origin_of[name].span("name") if name in origin_of else None,
            gathered.kept(),
            host.timeout,
        )
    diagnostics += faults
    _stop_at_errors(diagnostics)
    with spent("stage", "format"):
        kept = {file.path for file in rendered if file.kept is not None}
        texts, faults = known.formatter.format(
            {file.path: file.text for file in rendered if file.kept is None}, kept
        )
    # What the formatter cannot read was made by somebody.
    makers = {one.file.path: f"{one.file.template} of {one.plugin.label}" for one in planned.files}
    for fault in faults:
        made = [maker for path, maker in makers.items() if path in fault.text]
        diagnostics.append(evolve(fault, text=": ".join([*made, fault.text])))
    _stop_at_errors(diagnostics)
    return Output(
        opened=known.opened,
        ir=ir,
        tree=tree,
        extensions=known.extensions,
        plan=planned,
        files=tuple(rendered),
        gathered=gathered,
        unclean=known.unclean,
        common=common,
        texts=texts,
        warnings=tuple(ordered(diagnostics)),
    )


def build(
    project: Path,
    builtin: Sequence[Plugin],
    without: Collection[str] = (),
    *,
    force: bool = False,
    memory: Memory | None = None,
    inputs: Inputs | None = None,
) -> tuple[Output, Change]:
    """Build the project and publish the tree; BuildError leaves the old one as it was.

    `force` overwrites generated files that were changed by hand. `memory` learns what was built.
    `inputs` is what the project was when it was looked at last.
    """
    memory = memory or Memory()
    inputs = inputs or Inputs(project)
    output = make(project, builtin, without, memory=memory)
    tree = output.tree
    with spent("stage", "write"), locked(project):
        is_old = not inputs.are_as_before(())
        if is_old or not is_on_disk(tree.package, output.gathered.kept_files):
            # While this one waited, something was saved, or another build has published.
            output = make(project, builtin, without, memory=memory)
            tree = output.tree
        if blocked := not_a_folder(tree, output.of_kind("gen")):
            raise BuildError(blocked)
        settle(tree)
        for folder in {project, tree.package.parent, tree.package}:
            remove_leftovers(folder)
        lock = current_lock(tree)
        generated = output.of_kind("gen")
        # Before they are read: what is done to a file later is seen by the next build.
        stats_of = {path: stat_of(tree.package / path) for path in generated}
        change, edited = compare(tree, generated, lock, output.kept)
        if edited and not force:
            raise BuildError([*edited, *unreadable(lock)])
        following = next_lock(output, lock)
        stats_of |= publish(tree, generated, change, following)

        def written(path: str) -> KeptFile:
            entry = following.entries[tree.shown(path)]
            return KeptFile(
                path=path,
                owner=entry.owner,
                contributors=tuple(filter(None, entry.contributors.split(","))),
                digest=entry.digest,
                stat=stats_of[path],
            )

        memory.settle(output.gathered.came_to(memory, output.files, output.unclean, written))
        _help_editors(output)
    return output, change


def _help_editors(output: Output) -> None:
    """Write what editors complete and check the user's files by, with what plugins add."""
    folder = private_folder(output.tree.project)
    schemas = {
        "schema.json": resource_schema(output.extensions),
        "config.json": config_schema({**CORE_SECTIONS, **output.opened.sections}),
    }
    for name, schema in schemas.items():
        text = json.dumps(schema, indent=2, sort_keys=True).encode() + b"\n"
        if content(folder / name) != text:
            write_cached(folder / name, text)


def changes(before: Structured, after: Structured) -> tuple[list[SchemaChange], list[Diagnostic]]:
    """Return what has changed from one schema to another, as plugins see it."""
    older = before.common.context(SchemaContext, before.ir)
    context = after.common.context(DiffContext, after.ir, before=older)
    answers, failures = after.opened.host.call("forgecore_diff", context, SchemaChange)
    return [answer.value for answer in answers], failures


def edges(output: Output) -> tuple[list[Edge], list[Diagnostic]]:
    """Return what plugins add to the picture of the schema."""
    context = output.common.context(GraphContext, output.ir)
    answers, failures = output.opened.host.call("forgecore_graph", context, Edge)
    return [answer.value for answer in answers], failures


def compared(output: Output) -> tuple[list[Difference], list[str]]:
    """Return how the disk stands to a build: the files, and in words what else made them."""
    tree = output.tree
    lock = current_lock(tree)
    generated = output.of_kind("gen")
    found = sorted(
        differences(tree.project, tree.package, generated, lock), key=lambda one: one.shown
    )
    return found, list(head_differences(lock.head, _head(output.opened.host)))


def next_lock(output: Output, lock: Lock) -> Lock:
    """Return the lock of `output`: its generated files, and the scaffolds that `lock` knows."""
    tree = output.tree
    entries = [
        Entry(
            tree.shown(file.path),
            file.kind,
            file.owner,
            ",".join(file.contributors),
            file.kept or digest_of(output.texts[file.path].encode()),
        )
        for file in output.files
        if file.kind == "gen"
    ]
    kept = [entry for entry in lock.entries.values() if entry.kind == "scaffold"]
    return Lock.of(_head(output.opened.host), [*entries, *kept])


def _parts(opened: Opened, tree: Tree, formatter: Formatter) -> dict[str, str]:
    """Return what a build is made by beside the schema, each with what tells it from another."""
    config = opened.documents.config
    parts = {
        "forge.toml": hashed([config.source.text if config else ""]),
        "the environment": hashed(of_environment()),
        "the formatter": formatter.maker,
        "the package": str(tree.package),
        "the plugins": " ".join(opened.host.names),
        "the installation": hashed(of_installation(opened.project)),
        "forgecore": hashed([__version__, *stats(Path(__file__).parent)]),
    }
    for plugin in opened.host.plugins:
        if plugin.folder != Path(__file__).parent:
            parts[f"plugin {plugin.name}"] = hashed([plugin.version, *stats(plugin.folder)])
    return parts


def package_folder(project: Path, package: str) -> Path:
    """Return the folder of the import package: below `src` if there is one."""
    root = project / "src" if (project / "src").is_dir() else project
    return root.joinpath(*package.split("."))


@frozen
class Common:
    """What every hookspec after the schema's reading is given."""

    settings: Config
    origins: Origins
    sections: Mapping[str, type]
    plugins: tuple[str, ...]
    folder: Path

    def has_section(self, plugin: str) -> bool:
        """Return whether the plugin's section could be read at all."""
        cls = self.sections.get(plugin)
        return cls is None or cls in self.settings.sections

    def context(self, cls: type[ContextT], ir: IR, **more: Any) -> ContextT:  # noqa: ANN401
        """Return the context of a hookspec; `more` is what only this one has."""
        return cls(
            ir=ir,
            settings=self.settings,
            origins=self.origins,
            plugins=self.plugins,
            folder=self.folder,
            **more,
        )


def _extensions(opened: Opened) -> tuple[Extensions, list[Diagnostic]]:
    host = opened.host
    options, failures = host.call(
        "forgecore_options", OptionsContext(plugins=host.names), (ResourceOptions, FieldOptions)
    )
    types, more = host.call(
        "forgecore_field_types", FieldTypesContext(plugins=host.names), FieldType
    )
    complete = opened.complete and not failures and not more
    extensions, faults = extensions_of(options, types, (OWN_TABLES, OWN_KEYS), complete=complete)
    return extensions, [*failures, *more, *faults]


def _hidden_module(opened: Opened, package: str) -> Iterator[Diagnostic]:
    """Report a package that would stand before a module that its own code imports."""
    top = package.partition(".")[0]
    plugins = {plugin.module.__name__.partition(".")[0] for plugin in opened.host.plugins}
    if top in sys.stdlib_module_names | _IMPORTED | plugins:
        text = f"the package `{top}` would hide the module `{top}`: set another [project] package"
        document = opened.documents.config
        settings = opened.settings
        key = "package" if settings.package else "name"
        path = ("project", key)
        span = document.value_span(path) if document and getattr(settings, key) else None
        yield Diagnostic("bad-name", span, text)


def _checked(
    host: Host, ir: IR, common: Common, memory: Memory, *, complete: bool
) -> tuple[IR, list[Diagnostic], frozenset[str]]:
    """Return the IR as plugins change it, what is found in it, and in which resources.

    A plugin whose section of forge.toml could not be read at all is not asked.
    """
    able = evolve(host, plugins=tuple(p for p in host.plugins if common.has_section(p.name)))
    structured = ir.resources
    ir, diagnostics = _transformed(able, ir, common)
    memory.look_at(ir, structured)
    diagnostics += check_together(ir.resources)
    by_name = {resource.name: resource for resource in ir.resources}
    unclean: set[str] = set()
    asked = [one for one in ir.resources if not ((s := memory.settled(one.name)) and s.is_clean)]
    for resource in asked:
        said = _checked_each(host, resource, by_name, complete=complete)
        diagnostics += said
        unclean |= {resource.name} if said else set()
    context = common.context(CheckContext, ir)
    found, failures = able.call("forgecore_check", context, Diagnostic, context.each(asked))
    unclean |= {answer.of for answer in found if answer.of is not None}
    diagnostics += [*failures, *(answer.value for answer in found)]
    return ir, diagnostics, frozenset(unclean)


def _checked_each(
    host: Host, resource: Resource, by_name: Mapping[str, Resource], *, complete: bool
) -> list[Diagnostic]:
    # Field types are plugins' code as well.
    try:
        with guarded(host.timeout):
            return list(check_each(resource, by_name, complete=complete))
    except TookTooLong as error:
        text = f"a field type of {resource.name}: {error}{where(error)}"
        return [Diagnostic("plugin-failed", resource.origin.span("name"), text)]


def _transformed(host: Host, ir: IR, common: Common) -> tuple[IR, list[Diagnostic]]:
    diagnostics: list[Diagnostic] = []
    for plugin in host.plugins:
        context = common.context(TransformContext, ir)
        answers, failures = host.call_one(plugin, "forgecore_transform", context, IR)
        diagnostics += failures
        ir = answers[-1] if answers else ir
    return evolve(ir, resources=tuple(sorted(ir.resources, key=lambda r: r.name))), diagnostics


def _stop_at_errors(diagnostics: Sequence[Diagnostic]) -> None:
    # What would only warn can wait until the errors are gone.
    if found := errors(diagnostics):
        raise BuildError(found)


def _head(host: Host) -> list[str]:
    plugins = [
        f"plugin {plugin.name} {plugin.distribution} {plugin.version}" for plugin in host.plugins
    ]
    return [f"tool forgecore {__version__}", f"formatter ruff {formatter_version()}", *plugins]
