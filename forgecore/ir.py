"""The IR: what the schema becomes, and the only thing that plugins read."""

import builtins
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, cast

from attrs import Attribute, field, frozen, validators

from forgecore.names import quoted, words
from forgecore.source import KeyPath, Origin

T = TypeVar("T")
Options = Mapping[type[Any], object]
"""What plugins added, by the class that they declared."""
# Plugins make what is below; without types of their own they learn here what they gave.
TEXT: Final = validators.instance_of(str)
MAYBE_TEXT: Final = validators.optional(TEXT)


def each(*classes: type) -> Any:  # noqa: ANN401 -- validators of attrs fit every attribute
    """Return a validator of sequences and sets whose items are of `classes`."""
    items = validators.deep_iterable(validators.instance_of(classes))

    def validate(instance: object, attribute: "Attribute[Any]", value: object) -> None:
        if isinstance(value, str):
            raise TypeError(f"'{attribute.name}' must be a sequence, not a text")
        items(instance, attribute, value)

    return validate


OnDelete = Literal["restrict", "set_null", "cascade"]
NO_DEFAULT: Final = object()
"""The default of a field that has none; None is no default either, but a null."""


@frozen
class Import:
    """An import as data: `from module import name as alias`, or `import module` without a name."""

    module: str = field(validator=TEXT)
    name: str | None = field(default=None, validator=MAYBE_TEXT)
    alias: str | None = field(default=None, validator=MAYBE_TEXT)


@frozen
class Code:
    """A piece of Python, and the imports that it needs."""

    text: str = field(validator=TEXT)
    imports: tuple[Import, ...] = field(default=(), validator=each(Import))


@frozen(kw_only=True)
class FieldType:
    """What a word after `type =` stands for.

    `keys`: the limits that a field of this type may have (min, max, min_length, ...).
    `column`: what a list may do with it: nothing, compare, compare by range, search text.
    `value`: a default or bound of the schema as the Python value; ValueError says what it must be.
    `check`: what the database checks of a column, as SQL, beside its type.
    `alias`: whether the Python type is long enough to deserve a name in the models.
    """

    name: str = field(validator=TEXT)
    python: Callable[["Field"], Code] = field(validator=validators.is_callable())
    sql: Callable[["Field"], str] = field(validator=validators.is_callable())
    rule: Callable[["Field"], Code] = field(validator=validators.is_callable())
    keys: frozenset[str] = field(
        default=frozenset(),
        validator=validators.deep_iterable(TEXT, validators.instance_of(frozenset)),
    )
    column: Literal["none", "equal", "range", "text"] = field(
        default="equal", validator=validators.in_(("none", "equal", "range", "text"))
    )
    value: Callable[["Field", object], object] = field(validator=validators.is_callable())
    check: Callable[["Field", str], str | None] = field(
        default=lambda _field, _column: None, validator=validators.is_callable()
    )
    element: bool = True
    """Whether an array may have items of it."""
    alias: bool = False
    owner: str = ""
    """Who brings it, for messages; the host says it."""


class FieldTypeError(Exception):
    """A callable of a FieldType raised, or gave the wrong thing; the text names the plugin."""


@frozen(kw_only=True)
class Field:
    """A field of a resource."""

    name: str = field(validator=TEXT)
    type: str = field(validator=TEXT)
    required: bool = False
    unique: bool = False
    immutable: bool = False
    default: object = NO_DEFAULT
    sortable: bool = False
    filterable: bool = False
    min: object = None
    max: object = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    precision: int | None = None
    scale: int | None = None
    values: tuple[str, ...] = ()
    items: str | None = None
    unread: frozenset[str] = field(default=frozenset(), eq=False, repr=False)
    """Keys of the file whose values could not be read: checks say nothing about them."""
    kind: FieldType = field(eq=False, repr=False)
    items_kind: FieldType | None = field(default=None, eq=False, repr=False)
    origin: Origin = field(eq=False, repr=False)
    plugin_options: Options = field(factory=dict[Any, object], repr=False)

    @property
    def has_default(self) -> bool:
        """Whether the schema gives a default."""
        return self.default is not NO_DEFAULT

    @property
    def nullable(self) -> bool:
        """Whether the column may be null."""
        return not (self.required or self.has_default)

    @property
    def column(self) -> str:
        """The column as SQL wants it, quoted where it must be."""
        return quoted(self.name)

    def options(self, cls: "builtins.type[T]") -> T | None:
        """Return the keys that a plugin's class added to this field, or None without any."""
        return cast("T | None", self.plugin_options.get(cls))


@frozen(kw_only=True)
class Relation:
    """A reference of a resource to another, or to itself."""

    name: str = field(validator=TEXT)
    target: str = field(validator=TEXT)
    required: bool = False
    on_delete: OnDelete = "restrict"
    origin: Origin = field(eq=False, repr=False)

    @property
    def attribute(self) -> str:
        """The attribute, the error's name and the column: `<name>_id`."""
        return f"{self.name}_id"

    @property
    def column(self) -> str:
        """The column as SQL wants it, quoted where it must be."""
        return quoted(self.attribute)


@frozen(kw_only=True)
class Together:
    """Fields and relations that are unique, or indexed, together."""

    fields: tuple[str, ...] = field(validator=each(str))
    origin: Origin = field(eq=False, repr=False)


@frozen(kw_only=True)
class Resource:
    """A thing that the schema describes: one table, one set of actions."""

    name: str = field(validator=TEXT)
    snake: str = field(validator=TEXT)
    table: str = field(validator=TEXT)
    fields: tuple[Field, ...] = field(validator=each(Field))
    relations: tuple[Relation, ...] = field(default=(), validator=each(Relation))
    uniques: tuple[Together, ...] = field(default=(), validator=each(Together))
    indexes: tuple[Together, ...] = field(default=(), validator=each(Together))
    tenant_scoped: bool = False
    soft_delete: bool = False
    timestamps: bool = False
    unread: frozenset[KeyPath] = field(default=frozenset[KeyPath](), eq=False, repr=False)
    """What stands in the file and could not be read: checks say nothing about it."""
    origin: Origin = field(eq=False, repr=False)
    plugin_options: Options = field(factory=dict[Any, object], repr=False)

    @property
    def words(self) -> str:
        """The name as words: order item."""
        return words(self.snake)

    @property
    def sql_table(self) -> str:
        """The table as SQL wants it, quoted where it must be."""
        return quoted(self.table)

    def options(self, cls: type[T]) -> T | None:
        """Return the tables that a plugin's class added to this resource, or None without any."""
        return cast("T | None", self.plugin_options.get(cls))

    def attribute(self, name: str) -> str | None:
        """Return the attribute of a field or relation by the name that the schema uses."""
        if any(name == field.name for field in self.fields):
            return name
        return next((r.attribute for r in self.relations if name == r.name), None)

    def attributes(self, together: Together) -> list[str]:
        """Return the attributes of fields and relations that stand together."""
        return [self.attribute(name) or name for name in together.fields]


@frozen(kw_only=True)
class IR:
    """The whole schema, resources in the order of their names."""

    name: str = field(validator=TEXT)
    package: str = field(validator=TEXT)
    resources: tuple[Resource, ...] = field(validator=each(Resource))

    def resource(self, name: str) -> Resource:
        """Return a resource by its name; KeyError without it."""
        for resource in self.resources:
            if resource.name == name:
                return resource
        raise KeyError(name)


def related_names(ir: IR) -> dict[str, list[str]]:
    """Return, for each resource, the names of those that it refers to or that refer to it."""
    related: dict[str, set[str]] = {resource.name: set() for resource in ir.resources}
    for resource in ir.resources:
        for relation in resource.relations:
            if relation.target in related and relation.target != resource.name:
                related[resource.name].add(relation.target)
                related[relation.target].add(resource.name)
    return {name: sorted(names) for name, names in related.items()}


@frozen
class Origins:
    """Where the plugins' options stand; resources, fields and relations know it themselves."""

    known: Mapping[int, tuple[object, Origin]] = field(factory=dict[int, tuple[Any, Origin]])

    def of(self, thing: object) -> Origin | None:
        """Return where `thing` was written, or None for what a plugin made."""
        if isinstance(thing, Resource | Field | Relation | Together):
            return thing.origin
        found = self.known.get(id(thing))
        return found[1] if found else None
