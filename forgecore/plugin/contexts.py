"""What a hookimpl is given. New data is a new attribute, so plugins keep working."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self, TypeVar

from attrs import evolve, frozen

from forgecore.config import Config
from forgecore.ir import IR, Origins, Resource, related_names
from forgecore.source import Span

T = TypeVar("T")


@frozen(kw_only=True)
class OpenContext:
    """What is known before the schema is read: the plugins of this project, in order."""

    plugins: tuple[str, ...]


class ConfigContext(OpenContext):
    """For `forgecore_config`."""


class OptionsContext(OpenContext):
    """For `forgecore_options`."""


class FieldTypesContext(OpenContext):
    """For `forgecore_field_types`."""


class MigrationsContext(OpenContext):
    """For `forgecore_migrations`."""


@frozen(kw_only=True)
class InitContext(OpenContext):
    """For `forgecore_init`. `name` is the project's, and its package's."""

    name: str


@frozen(kw_only=True)
class CommandsContext(OpenContext):
    """For `forgecore_commands`. `project` is the folder of forge.toml, if there is one."""

    project: Path | None


@frozen(kw_only=True)
class SchemaContext:
    """What every hookspec gets once the schema is read."""

    ir: IR
    settings: Config
    origins: Origins
    plugins: tuple[str, ...]
    folder: Path
    """The folder of the user's package: what stands under `resources/` there is the user's."""
    of: Resource | None = None
    """The resource that a hookimpl under @each_resource is called for."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources, in the order of their names."""
        return self.ir.resources

    @property
    def resource(self) -> Resource:
        """The resource that this call is for; LookupError without @each_resource."""
        if self.of is None:
            raise LookupError("ctx.resource is for hookimpls under @each_resource")
        return self.of

    def each(self, resources: Iterable[Resource]) -> list[Self]:
        """Return, for each resource, the context in which it and those related to it are all."""
        by_name = {resource.name: resource for resource in self.ir.resources}
        related = related_names(self.ir)
        return [
            evolve(
                self,
                of=one,
                ir=evolve(
                    self.ir,
                    resources=tuple(by_name[n] for n in sorted([one.name, *related[one.name]])),
                ),
            )
            for one in resources
        ]

    def config(self, cls: type[T]) -> T:
        """Return the section of forge.toml that was declared with `cls`."""
        return self.settings.section(cls)

    def config_span(self, cls: type, *path: str | int, of_key: bool = False) -> Span | None:
        """Return where the value of a key of the section of `cls`, or below it, was written.

        `of_key`: where the key itself stands.
        """
        return self.settings.span(cls, *path, of_key=of_key)

    def is_whole(self, cls: type) -> bool:
        """Return whether the section of `cls` could be read as it was written.

        A check that finds something missing in a section that is not whole says nothing.
        """
        return cls not in self.settings.unread

    def span(self, thing: object, key: str | None = None) -> Span | None:
        """Return where a resource, field, relation or option was written, or one of its keys.

        None for what a plugin made: that stands nowhere.
        """
        origin = self.origins.of(thing)
        return origin.span(key) if origin else None


class TransformContext(SchemaContext):
    """For `forgecore_transform`."""


class CheckContext(SchemaContext):
    """For `forgecore_check`."""


class RenderContext(SchemaContext):
    """For `forgecore_render`."""


class FragmentsContext(SchemaContext):
    """For `forgecore_fragments`."""


class GraphContext(SchemaContext):
    """For `forgecore_graph`."""


@frozen(kw_only=True)
class DiffContext(SchemaContext):
    """For `forgecore_diff`: the schema as it is now, and as it was `before`."""

    before: SchemaContext


class ScaffoldContext(SchemaContext):
    """For `forgecore_scaffold`."""
