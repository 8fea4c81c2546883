"""What a hookimpl gives: files, fragments for slots, scaffolds, options, migrations."""

from collections.abc import Sequence
from typing import Literal, get_args

from attrs import field, frozen, validators

from forgecore.ir import MAYBE_TEXT, TEXT, Import, each
from forgecore.source import Span

Language = Literal["python", "python-decorator", "python-expression", "sql"]
Effect = Literal["breaks", "locks", "safe"]


@frozen(kw_only=True)
class Slot:
    """A named place in a template where other plugins may add a fragment.

    `names` are what a fragment's template may use beside `view`. A slot of the language
    sql holds arms of a statement's WITH; the name `arm` is then the plugin's own name. One that
    is `exclusive` is filled by one plugin at most.
    """

    name: str = field(validator=TEXT)
    language: Language = field(validator=validators.in_(get_args(Language)))
    names: tuple[str, ...] = field(default=(), validator=each(str))
    doc: str = field(validator=TEXT)
    exclusive: bool = False


@frozen(kw_only=True)
class GeneratedFile:
    """A file under gen/, rewritten at every build.

    `path` is relative to the user's package. `template` is "package:path"; it sees `view`,
    `imports` and the slots that it declares. `resource` is the resource that the file is of.
    """

    path: str = field(validator=TEXT)
    template: str = field(validator=TEXT)
    view: object
    imports: Sequence[Import] = field(
        default=(), converter=tuple[Import, ...], validator=each(Import)
    )
    slots: Sequence[Slot] = field(default=(), converter=tuple[Slot, ...], validator=each(Slot))
    resource: str | None = field(default=None, validator=MAYBE_TEXT)


@frozen(kw_only=True)
class Fragment:
    """A piece of text for a slot of another template.

    `resource` limits it to that resource's files. `params` are named parameters of the
    statement, as Python expressions. `when` and `unless` name a slot that must, or must
    not, be filled by anyone for this fragment to count. A fragment for a slot that nobody
    declares is an error, unless it is `optional`.
    """

    slot: str = field(validator=TEXT)
    template: str = field(validator=TEXT)
    view: object = None
    resource: str | None = field(default=None, validator=MAYBE_TEXT)
    imports: Sequence[Import] = field(
        default=(), converter=tuple[Import, ...], validator=each(Import)
    )
    params: dict[str, str] = field(
        factory=dict[str, str],
        validator=validators.deep_mapping(TEXT, TEXT, validators.instance_of(dict)),
    )
    when: str | None = field(default=None, validator=MAYBE_TEXT)
    unless: str | None = field(default=None, validator=MAYBE_TEXT)
    optional: bool = False


@frozen(kw_only=True)
class ScaffoldFile:
    """A file that is written once and is the user's from then on."""

    path: str = field(validator=TEXT)
    template: str = field(validator=TEXT)
    view: object
    imports: Sequence[Import] = field(
        default=(), converter=tuple[Import, ...], validator=each(Import)
    )
    resource: str | None = field(default=None, validator=MAYBE_TEXT)


@frozen
class ResourceOptions:
    """A table that a plugin adds to a resource: `key` in the schema, structured as `cls`."""

    key: str = field(validator=TEXT)
    cls: type = field(validator=validators.instance_of(type))


@frozen
class FieldOptions:
    """Keys that a plugin adds to a field: the attributes of `cls`."""

    cls: type = field(validator=validators.instance_of(type))


@frozen(kw_only=True)
class Migration:
    """A numbered SQL file of a plugin's own schema objects; never edited after a release."""

    number: int = field(validator=validators.instance_of(int))
    name: str = field(validator=TEXT)
    sql: str = field(validator=TEXT)


@frozen
class Edge:
    """An arrow of `forgecore graph`, from a resource or anything else to another."""

    source: str = field(validator=TEXT)
    target: str = field(validator=TEXT)
    label: str = field(default="", validator=TEXT)


@frozen(kw_only=True)
class SchemaChange:
    """What a change of the schema does, for `forgecore diff`.

    `subject` is what has changed: "Product.price". It `breaks` what stores data or calls the
    code of before, it `locks` a table while a migration runs, or it is `safe`. `span` is of the
    schema as it is now, or of the one before for what is gone.
    """

    code: str = field(validator=TEXT)
    subject: str = field(validator=TEXT)
    text: str = field(validator=TEXT)
    effect: Effect = field(validator=validators.in_(get_args(Effect)))
    span: Span | None = field(
        default=None, validator=validators.optional(validators.instance_of(Span))
    )


@frozen(kw_only=True)
class Start:
    """What a plugin adds to the project that `forgecore init` writes.

    `config` stands behind [project] in forge.toml, `schema` behind the fields of the resource
    Note; `files` are texts by path. `after_build` and `at_last` are commands to run next.
    """

    config: str = field(default="", validator=TEXT)
    schema: str = field(default="", validator=TEXT)
    files: dict[str, str] = field(
        factory=dict[str, str],
        validator=validators.deep_mapping(TEXT, TEXT, validators.instance_of(dict)),
    )
    after_build: tuple[str, ...] = field(default=(), validator=each(str))
    at_last: tuple[str, ...] = field(default=(), validator=each(str))


@frozen
class Order:
    """Where a plugin wants to stand: names of plugins, absent ones are ignored."""

    before: tuple[str, ...] = field(default=(), validator=each(str))
    after: tuple[str, ...] = field(default=(), validator=each(str))
