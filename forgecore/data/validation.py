"""The view of a resource's validation: one rule for each field."""

from attrs import frozen

from forgecore.data.naming import Names
from forgecore.plugin import Code, Field, GeneratedFile, Import, Relation, Resource

_RULES = (Import("forgecore.runtime", "rules"),)


@frozen
class RuleView:
    """The rule of one field."""

    name: str
    text: str
    of: Field | Relation


@frozen(kw_only=True)
class ValidationView:
    """What validation.py.mako prints."""

    a_words: str
    rules: tuple[RuleView, ...]
    mapping: str
    rule: str
    final: str


def validation_file(resource: Resource, a_words: str) -> GeneratedFile:
    """Make the file of a resource's rules."""
    names = Names(["RULES"])
    rules = [RuleView(field.name, names.use(_rule(field)), field) for field in resource.fields]
    for relation in resource.relations:
        text = "rules.uuid" if relation.required else "rules.optional(rules.uuid)"
        rules.append(RuleView(relation.attribute, names.use(Code(text, _RULES)), relation))
    view = ValidationView(
        a_words=a_words,
        rules=tuple(rules),
        mapping=names.bind(Import("collections.abc", "Mapping")),
        rule=names.bind(Import("forgecore.runtime", "Rule")),
        final=names.bind(Import("typing", "Final")),
    )
    return GeneratedFile(
        path=f"gen/validation/{resource.snake}.py",
        template="forgecore.data:templates/validation.py.mako",
        view=view,
        imports=names.imports,
        resource=resource.name,
    )


def _rule(field: Field) -> Code:
    code = field.kind.rule(field)
    if not field.nullable:
        return code
    return Code(f"rules.optional({code.text})", (*code.imports, *_RULES))
