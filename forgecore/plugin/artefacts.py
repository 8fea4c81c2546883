"""What a hookimpl gives: files, fragments for slots, scaffolds, options, migrations."""

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from forgecore.ir import Import

Language = Literal["python", "python-decorator", "python-expression", "sql"]


@frozen(kw_only=True)
class Slot:
    """A named place in a template where other plugins may add a fragment.

    `names` are what a fragment's template may use beside `view`. A slot of the language
    sql holds arms of a statement's WITH; the name `arm` is then the plugin's own name.
    """

    name: str
    language: Language
    names: tuple[str, ...] = ()
    doc: str


@frozen(kw_only=True)
class GeneratedFile:
    """A file under gen/, rewritten at every build.

    `path` is relative to the user's package. `template` is "package:path"; it sees `view`,
    `imports` and the slots that it declares. `resource` is the resource that the file is of.
    """

    path: str
    template: str
    view: object
    imports: Sequence[Import] = ()
    slots: Sequence[Slot] = ()
    resource: str | None = None


@frozen(kw_only=True)
class Fragment:
    """A piece of text for a slot of another template.

    `resource` limits it to that resource's files. `params` are named parameters of the
    statement, as Python expressions. `when` and `unless` name a slot that must, or must
    not, be filled by anyone for this fragment to count. A fragment for a slot that nobody
    declares is an error, unless it is `optional`.
    """

    slot: str
    template: str
    view: object = None
    resource: str | None = None
    imports: Sequence[Import] = ()
    params: Mapping[str, str] = field(factory=dict[str, str])
    when: str | None = None
    unless: str | None = None
    optional: bool = False


@frozen(kw_only=True)
class ScaffoldFile:
    """A file that is written once and is the user's from then on."""

    path: str
    template: str
    view: object
    imports: Sequence[Import] = ()
    resource: str | None = None


@frozen
class ResourceOptions:
    """A table that a plugin adds to a resource: `key` in the schema, structured as `cls`."""

    key: str
    cls: type


@frozen
class FieldOptions:
    """Keys that a plugin adds to a field: the attributes of `cls`."""

    cls: type


@frozen(kw_only=True)
class Migration:
    """A numbered SQL file of a plugin's own schema objects; never edited after a release."""

    number: int
    name: str
    sql: str


@frozen
class Order:
    """Where a plugin wants to stand: names of plugins, absent ones are ignored."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
