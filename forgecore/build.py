"""The pipeline of a build: the stages in order, and nothing else."""

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

from attrs import evolve, frozen

from forgecore import __version__
from forgecore.config import CORE_SECTIONS, Config, check_environment
from forgecore.diagnostics import Diagnostic, errors, ordered
from forgecore.ir import IR, FieldType, Origins
from forgecore.names import near
from forgecore.plugin.artefacts import (
    Edge,
    FieldOptions,
    Fragment,
    GeneratedFile,
    ResourceOptions,
    ScaffoldFile,
)
from forgecore.plugin.contexts import (
    CheckContext,
    ConfigContext,
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
from forgecore.plugin.host import Host, Plugin, installed, open_host
from forgecore.render.files import Rendered
from forgecore.render.files import render as render_files
from forgecore.render.plan import Plan, plan
from forgecore.runtime.settings import ProjectSettings
from forgecore.schema.check import check
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
from forgecore.write.compare import Difference, differences, head_differences
from forgecore.write.format import format_texts, formatter_version, remove_leftovers
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
class Output:
    """What a build makes, before it is written: texts by path relative to the package."""

    opened: Opened
    ir: IR
    tree: Tree
    tables: Mapping[str, type]
    plan: Plan
    files: tuple[Rendered, ...]
    common: "Common"
    texts: Mapping[str, str]
    warnings: tuple[Diagnostic, ...]

    def of_kind(self, kind: str) -> dict[str, str]:
        """Return the texts of the generated, or of the scaffolded files."""
        return {file.path: self.texts[file.path] for file in self.files if file.kind == kind}


def builtin_plugin(name: str, module: ModuleType) -> Plugin:
    """Return a plugin that is part of this distribution."""
    return Plugin(name=name, distribution="forgecore", version=__version__, module=module)


def open_project(project: Path, builtin: Sequence[Plugin], without: Collection[str] = ()) -> Opened:
    """Read the files and open the plugins; what is wrong with either is in `diagnostics`.

    Plugins `without` are not imported; what the schema says to them is passed over.
    """
    with spent("stage", "load"):
        documents, diagnostics = load(project)
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
    settings = config.sections.get(ProjectSettings, ProjectSettings())
    return Opened(
        project=project,
        documents=documents,
        host=host,
        config=config,
        settings=settings if isinstance(settings, ProjectSettings) else ProjectSettings(),
        sections=sections,
        complete=complete,
        diagnostics=tuple(diagnostics),
    )


def make(
    project: Path,
    builtin: Sequence[Plugin],
    without: Collection[str] = (),
    *,
    scaffolds: bool = False,
) -> Output:
    """Run every stage up to the format; BuildError with every diagnostic of the run.

    Without `scaffolds` those are planned and not rendered: a build does not write them.
    """
    opened = open_project(project, builtin, without)
    host = opened.host
    diagnostics = list(opened.diagnostics)
    extensions, failures = _extensions(opened)
    diagnostics += failures
    name, package = project_names(project, opened.settings)
    diagnostics += _hidden_module(opened, package)
    with spent("stage", "structure"):
        ir, origins, faults = structure_ir(opened.documents, name, package, extensions)
    diagnostics += faults
    # A resource that could not be structured is missing, not unknown.
    complete = opened.documents.complete and len(ir.resources) == len(opened.documents.resources)
    tree = Tree(project=project, package=package_folder(project, package))
    common = Common(opened.config, origins, opened.sections, host.names, tree.package)
    with spent("stage", "check"):
        ir, found = _checked(host, ir, common, complete=complete)
    # What is missing may make a plugin stumble; why it is missing is said already.
    sound = not errors(diagnostics)
    diagnostics += [one for one in found if sound or one.code != "plugin-failed"]
    _stop_at_errors(diagnostics)
    files, failures = host.call(
        "forgecore_render", common.context(RenderContext, ir), GeneratedFile
    )
    diagnostics += failures
    fragments, failures = host.call(
        "forgecore_fragments", common.context(FragmentsContext, ir), Fragment
    )
    diagnostics += failures
    scaffold_files, failures = host.call(
        "forgecore_scaffold", common.context(ScaffoldContext, ir), ScaffoldFile
    )
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
        planned, faults = plan(files, fragments, scaffold_files, attributes)
    diagnostics += faults
    _stop_at_errors(diagnostics)
    if not scaffolds:
        planned = evolve(planned, scaffolds=())
    with spent("stage", "render"):
        rendered, faults = render_files(
            planned, {resource.name: resource.origin.span("name") for resource in ir.resources}
        )
    diagnostics += faults
    _stop_at_errors(diagnostics)
    with spent("stage", "format"):
        texts, faults = format_texts(
            {file.path: file.text for file in rendered},
            tree.package,
            tree.project,
            package.partition(".")[0],
        )
    diagnostics += faults
    _stop_at_errors(diagnostics)
    return Output(
        opened=opened,
        ir=ir,
        tree=tree,
        tables=extensions.tables,
        plan=planned,
        files=tuple(rendered),
        common=common,
        texts=texts,
        warnings=tuple(ordered(diagnostics)),
    )


def build(
    project: Path, builtin: Sequence[Plugin], without: Collection[str] = (), *, force: bool = False
) -> tuple[Output, Change]:
    """Build the project and publish the tree; BuildError leaves the old one as it was.

    `force` overwrites generated files that were changed by hand.
    """
    output = make(project, builtin, without)
    tree = output.tree
    with spent("stage", "write"), locked(project):
        if blocked := not_a_folder(tree):
            raise BuildError(blocked)
        settle(tree)
        for folder in {project, tree.package.parent, tree.package}:
            remove_leftovers(folder)
        lock = current_lock(tree)
        generated = output.of_kind("gen")
        change, edited = compare(tree, generated, lock)
        if edited and not force:
            raise BuildError(edited)
        publish(tree, generated, change, next_lock(output, lock))
    return output, change


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
            digest_of(output.texts[file.path].encode()),
        )
        for file in output.files
        if file.kind == "gen"
    ]
    kept = [entry for entry in lock.entries.values() if entry.kind == "scaffold"]
    return Lock.of(_head(output.opened.host), [*entries, *kept])


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

    def context(self, cls: type[ContextT], ir: IR) -> ContextT:
        """Return the context of a hookspec."""
        return cls(
            ir=ir,
            settings=self.settings,
            origins=self.origins,
            plugins=self.plugins,
            folder=self.folder,
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


def _checked(host: Host, ir: IR, common: Common, *, complete: bool) -> tuple[IR, list[Diagnostic]]:
    """Return the IR as plugins change it, and what they and the core find in it.

    A plugin whose section of forge.toml could not be read at all is not asked.
    """
    able = evolve(host, plugins=tuple(p for p in host.plugins if common.has_section(p.name)))
    ir, diagnostics = _transformed(able, ir, common)
    diagnostics += check(ir, complete=complete)
    found, failures = able.call("forgecore_check", common.context(CheckContext, ir), Diagnostic)
    return ir, [*diagnostics, *failures, *(answer.value for answer in found)]


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
