"""What a change of the schema does to the database, and to those who call the generated code."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from forgecore.data.ddl import IndexSpec, index_specs
from forgecore.data.types import bounds
from forgecore.plugin import (
    NO_DEFAULT,
    DiffContext,
    Effect,
    Field,
    Relation,
    Resource,
    SchemaChange,
    Span,
)

CODES: Final[Mapping[str, str]] = {
    "data/table-added": "A table that is new.",
    "data/table-dropped": "A table, and all that is in it.",
    "data/table-renamed": "A table under another name: a migration would make a new one.",
    "data/column-added": "A column that is new.",
    "data/column-dropped": "A column, and all that is in it.",
    "data/column-retyped": "A column of another type.",
    "data/column-required": "A column that no row may leave empty any more.",
    "data/column-optional": "A column that may be empty.",
    "data/default-changed": "Another default of a column.",
    "data/check-changed": "Another condition for the values of a column.",
    "data/index-added": "An index, or a unique key, that is new.",
    "data/index-dropped": "An index, or a unique key, that goes.",
    "data/reference-changed": "A foreign key that is new, goes, or does otherwise on a delete.",
    "data/package-changed": "Another package: every import of the generated code.",
    "data/class-added": "A resource that is new.",
    "data/class-removed": "A resource whose classes go.",
    "data/attribute-added": "An attribute that is new.",
    "data/attribute-removed": "An attribute that goes.",
    "data/attribute-retyped": "An attribute of another type.",
    "data/input-required": "An attribute that every caller of create must give.",
    "data/input-removed": "An attribute that an update no longer takes.",
    "data/list-changed": "A column that a list filters or sorts by no more.",
    "data/rule-changed": "Other values that are valid.",
    "data/tenant-changed": "A resource that belongs to a tenant, or no longer does.",
    "data/delete-changed": "Another meaning of delete.",
}
"""The codes of the changes that the core's generator finds."""

_WIDER: Final = frozenset({("integer", "bigint"), ("real", "double precision")})
_TEXTS: Final = frozenset({"string", "text"})
"""Field types that take any text, within their limits."""

_OF_DATABASE: Final = ("table", "column", "default", "check", "index", "reference")


def changes(ctx: DiffContext) -> Iterator[SchemaChange]:
    """Give what has changed in the resources since `ctx.before`."""
    if ctx.ir.package != ctx.before.ir.package:
        text = f"the package is {ctx.ir.package}, and was {ctx.before.ir.package}"
        yield _change("package-changed", ctx.ir.package, text, "breaks", None)
    before = {resource.name: resource for resource in ctx.before.resources}
    after = {resource.name: resource for resource in ctx.resources}
    was_table = {resource.table: resource for resource in ctx.before.resources}
    is_table = {resource.table for resource in ctx.resources}
    for name, old in before.items():
        if name not in after:
            span = ctx.before.span(old, "name")
            if old.table not in is_table:
                yield _change("table-dropped", name, f"the table {old.table} goes", "breaks", span)
            text = f"{name}, {name}Create, {name}Update and {name}Actions go"
            yield _change("class-removed", name, text, "breaks", span)
    for name, new in after.items():
        if name not in before:
            span = ctx.span(new, "name")
            yield _change("class-added", name, f"{name}Actions is new", "safe", span)
            if (other := was_table.get(new.table)) is None:
                yield _change("table-added", name, f"the table {new.table} is new", "safe", span)
            elif other.name not in after:
                # Another name for what stores the same rows.
                found = _Pair(ctx, other, new).changes()
                parts = tuple(f"data/{part}-" for part in _OF_DATABASE)
                yield from (change for change in found if change.code.startswith(parts))
        else:
            yield from _Pair(ctx, before[name], new).changes()


def _change(code: str, subject: str, text: str, effect: Effect, span: Span | None) -> SchemaChange:
    return SchemaChange(code=f"data/{code}", subject=subject, text=text, effect=effect, span=span)


@frozen
class _Pair:
    """A resource before and after."""

    ctx: DiffContext
    old: Resource
    new: Resource

    def changes(self) -> Iterator[SchemaChange]:
        old, new, name = self.old, self.new, self.new.name
        if old.table != new.table:
            text = f"the table {old.table} is called {new.table}: rename it in a migration"
            span = self.ctx.span(new, "table")
            yield _change("table-renamed", name, text, "breaks", span)
        yield from self._flags()
        yield from self._fields()
        yield from self._relations()
        yield from self._indexes()

    def _flags(self) -> Iterator[SchemaChange]:
        old, new, name = self.old, self.new, self.new.name
        if old.tenant_scoped != new.tenant_scoped:
            span = self.ctx.span(new, "tenant_scoped")
            text = (
                "it belongs to a tenant: rows that are there have none, and each call needs one"
                if new.tenant_scoped
                else "it belongs to no tenant: what one of them wrote is there for all"
            )
            yield _change("tenant-changed", name, text, "breaks", span)
        if old.soft_delete != new.soft_delete:
            span = self.ctx.span(new, "soft_delete")
            if new.soft_delete:
                text = "delete puts a row into the trash, where it was gone for good"
                yield _change("delete-changed", name, text, "safe", span)
                yield self._column("added", "deleted_at", "safe", span)
            else:
                text = "delete is for good, restore() goes, and what is in the trash comes back"
                yield _change("delete-changed", name, text, "breaks", span)
                yield self._column("dropped", "deleted_at", "breaks", span)
        if old.timestamps != new.timestamps:
            span = self.ctx.span(new, "timestamps")
            for column in ("created_at", "updated_at"):
                if new.timestamps:
                    yield self._column("added", column, "safe", span)
                else:
                    yield self._column("dropped", column, "breaks", span)
                    text = f"{name}.{column} goes"
                    yield _change("attribute-removed", f"{name}.{column}", text, "breaks", span)

    def _column(self, code: str, column: str, effect: Effect, span: Span | None) -> SchemaChange:
        what = {"added": "is new", "dropped": "goes"}[code]
        text = f"the column {self.new.table}.{column} {what}"
        return _change(f"column-{code}", f"{self.new.name}.{column}", text, effect, span)

    def _fields(self) -> Iterator[SchemaChange]:
        before = {field.name: field for field in self.old.fields}
        after = {field.name: field for field in self.new.fields}
        columns = {relation.attribute for relation in self.new.relations}
        gone = [field for name, field in before.items() if name not in {*after, *columns}]
        for field in gone:
            span = self.ctx.before.span(field)
            like = [
                other.name
                for other in self.new.fields
                if other.name not in before and other.kind.sql(other) == field.kind.sql(field)
            ]
            hint = f" (if it is called {like[0]} now, rename it in a migration)" if like else ""
            yield from self._removed(field.name, span, hint)
        references = {relation.attribute: relation for relation in self.old.relations}
        for name, field in after.items():
            if name in references:
                span = self.ctx.span(field)
                yield self._reference(references[name], "goes", "safe", span)
            elif name not in before:
                span = self.ctx.span(field)
                is_needed = field.required and not field.has_default
                yield from self._added(name, is_needed=is_needed, span=span)
            else:
                yield from self._field(before[name], field)

    def _removed(self, name: str, span: Span | None, hint: str = "") -> Iterator[SchemaChange]:
        subject = f"{self.new.name}.{name}"
        text = f"the column {self.old.table}.{name} goes{hint}"
        yield _change("column-dropped", subject, text, "breaks", span)
        yield _change("attribute-removed", subject, f"{subject} goes", "breaks", span)

    def _added(self, name: str, *, is_needed: bool, span: Span | None) -> Iterator[SchemaChange]:
        subject = f"{self.new.name}.{name}"
        column = f"{self.new.table}.{name}"
        if is_needed:
            text = f"the column {column} is new, and rows that are there have no value for it"
            yield _change("column-required", subject, text, "breaks", span)
            text = f"{self.new.name}Create needs `{name}`"
            yield _change("input-required", subject, text, "breaks", span)
        else:
            yield self._column("added", name, "safe", span)
            yield _change("attribute-added", subject, f"{subject} is new", "safe", span)

    def _field(self, old: Field, new: Field) -> Iterator[SchemaChange]:
        subject = f"{self.new.name}.{new.name}"
        column = f"{self.new.table}.{new.name}"
        before, after = old.kind.sql(old), new.kind.sql(new)
        span = self.ctx.span(new, "type")
        if before != after:
            effect: Effect = "locks" if _is_wider(before, after) else "breaks"
            text = f"the column {column} is {after}, and was {before}"
            yield _change("column-retyped", subject, text, effect, span)
        types = [(one.kind.python(one).text, one.nullable) for one in (old, new)]
        is_same = types[0][1] == types[1][1] and old.type == new.type == "enum"
        if types[0] != types[1] and not (is_same and set(old.values) == set(new.values)):
            shown = [text + (" | None" if is_null else "") for text, is_null in types]
            # Who reads a value that is never None is content with one that might have been.
            is_narrower = types[0][0] == types[1][0] and not types[1][1]
            text = f"{subject} is {shown[1]}, and was {shown[0]}"
            effect = "safe" if is_narrower else "breaks"
            yield _change("attribute-retyped", subject, text, effect, span)
        yield from self._presence(old, new)
        yield from self._rules(old, new)
        yield from self._uses(old, new)

    def _presence(self, old: Field, new: Field) -> Iterator[SchemaChange]:
        subject, column = f"{self.new.name}.{new.name}", f"{self.new.table}.{new.name}"
        span = self.ctx.span(new, "required" if new.required else None)
        if old.nullable and not new.nullable:
            text = f"the column {column} may not be null: rows that are there must have a value"
            yield _change("column-required", subject, text, "breaks", span)
        elif new.nullable and not old.nullable:
            text = f"the column {column} may be null"
            yield _change("column-optional", subject, text, "safe", span)
        was_needed, is_needed = (one.required and not one.has_default for one in (old, new))
        if is_needed and not was_needed:
            text = f"{self.new.name}Create needs `{new.name}`"
            yield _change("input-required", subject, text, "breaks", span)
        if old.default != new.default:
            was, is_ = (
                "none" if one is NO_DEFAULT else repr(one) for one in (old.default, new.default)
            )
            text = f"the default of {subject} is {is_}, and was {was}"
            yield _change("default-changed", subject, text, "safe", self.ctx.span(new, "default"))

    def _rules(self, old: Field, new: Field) -> Iterator[SchemaChange]:
        subject, column = f"{self.new.name}.{new.name}", f"{self.new.table}.{new.name}"
        narrower = list(_narrower(old, new))
        span = self.ctx.span(new, narrower[0] if narrower else None)
        checks = [one.kind.check(one, one.column) for one in (old, new)]
        if checks[0] != checks[1]:
            effect: Effect = "breaks" if narrower else "locks" if checks[1] else "safe"
            text = f"what {column} may hold is checked anew"
            text += ": rows that are there may not pass" if narrower else ""
            yield _change("check-changed", subject, text, effect, span)
        if narrower:
            text = f"{subject} takes fewer values, by {', '.join(narrower)}"
            yield _change("rule-changed", subject, text, "breaks", span)

    def _uses(self, old: Field, new: Field) -> Iterator[SchemaChange]:
        subject = f"{self.new.name}.{new.name}"
        if new.immutable and not old.immutable:
            text = f"{self.new.name}Update takes no `{new.name}` any more"
            span = self.ctx.span(new, "immutable")
            yield _change("input-removed", subject, text, "breaks", span)
        for key, use in (("filterable", "filter"), ("sortable", "sort")):
            if getattr(old, key) and not getattr(new, key):
                text = f"a list cannot {use} by {self.new.name}Columns.{new.name} any more"
                yield _change("list-changed", subject, text, "breaks", self.ctx.span(new))

    def _relations(self) -> Iterator[SchemaChange]:
        before = {relation.name: relation for relation in self.old.relations}
        after = {relation.name: relation for relation in self.new.relations}
        fields = {field.name: field for field in self.old.fields}
        kept = {field.name for field in self.new.fields}
        for name, relation in before.items():
            if name not in after and relation.attribute not in kept:
                yield from self._removed(relation.attribute, self.ctx.before.span(relation))
        for name, relation in after.items():
            span = self.ctx.span(relation)
            if (field := fields.get(relation.attribute)) is not None:
                if (sql := field.kind.sql(field)) != "uuid":
                    subject = f"{self.new.name}.{relation.attribute}"
                    text = (
                        f"the column {self.new.table}.{relation.attribute} is uuid, and was {sql}"
                    )
                    yield _change("column-retyped", subject, text, "breaks", span)
                # Rows that are there may refer to nothing.
                yield self._reference(relation, "is new", "breaks", span)
            elif name not in before:
                is_needed = relation.required
                yield from self._added(relation.attribute, is_needed=is_needed, span=span)
                yield self._reference(relation, "is new", "locks", span)
            else:
                yield from self._relation(before[name], relation)

    def _relation(self, old: Relation, new: Relation) -> Iterator[SchemaChange]:
        subject = f"{self.new.name}.{new.attribute}"
        if old.target != new.target:
            said = f"refers to {new.target}, where it referred to {old.target}"
            yield self._reference(new, said, "breaks", self.ctx.span(new, "belongs_to"))
        if old.on_delete != new.on_delete:
            said = f"has on_delete {new.on_delete}, where it had {old.on_delete}"
            # Who deletes is either refused where that went through, or takes others along.
            yield self._reference(new, said, "breaks", self.ctx.span(new, "on_delete"))
        if new.required and not old.required:
            span = self.ctx.span(new, "required")
            text = f"the column {self.new.table}.{new.attribute} may not be null"
            yield _change("column-required", subject, text, "breaks", span)
            text = f"{self.new.name}Create needs `{new.attribute}`"
            yield _change("input-required", subject, text, "breaks", span)
        elif old.required and not new.required:
            text = f"{subject} may be None"
            yield _change("attribute-retyped", subject, text, "breaks", self.ctx.span(new))

    def _reference(
        self, relation: Relation, said: str, effect: Effect, span: Span | None
    ) -> SchemaChange:
        text = f"the foreign key of {self.new.table}.{relation.attribute} {said}"
        subject = f"{self.new.name}.{relation.attribute}"
        return _change("reference-changed", subject, text, effect, span)

    def _indexes(self) -> Iterator[SchemaChange]:
        before, after = (
            {
                (spec.keys, spec.unique, spec.live and one.soft_delete): spec
                for spec in index_specs(one)
            }
            for one in (self.old, self.new)
        )
        if self.old.tenant_scoped != self.new.tenant_scoped:
            # Every key has the tenant in front, or has lost it: said already.
            return
        references = {relation.attribute for relation in self.old.relations}
        for key, spec in after.items():
            is_told = isinstance(spec.of, Relation) and spec.of.attribute not in references
            if key in before or is_told:
                continue
            subject = f"{self.new.name}.{_last(spec)}"
            text = f"the index {spec.name} is made: nobody writes to {self.new.table} meanwhile"
            # Of fewer rows than before, or of a column that is empty, it cannot be refused.
            is_sure = (spec.keys, True, False) in before or not set(spec.keys) <= _columns(self.old)
            is_doubtful = spec.unique and not is_sure
            text += ", and rows that are not unique stop it" if is_doubtful else ""
            effect: Effect = "breaks" if is_doubtful else "locks"
            yield _change("index-added", subject, text, effect, self.ctx.span(spec.of))
        for key, spec in before.items():
            if key not in after and set(spec.keys) <= _columns(self.new):
                subject = f"{self.new.name}.{_last(spec)}"
                text = f"the index {spec.name} goes"
                span = self.ctx.before.span(spec.of)
                yield _change("index-dropped", subject, text, "safe", span)


def _columns(resource: Resource) -> set[str]:
    own = {"id", "tenant_id"} | ({"created_at"} if resource.timestamps else set[str]())
    own |= {relation.attribute for relation in resource.relations}
    return own | {field.name for field in resource.fields}


def _last(spec: IndexSpec) -> str:
    keys = [key for key in spec.keys if key not in {"tenant_id", "id"}]
    return "+".join(keys or spec.keys)


def _is_wider(before: str, after: str) -> bool:
    if (before, after) in _WIDER:
        return True
    old, new = (_digits(text) for text in (before, after))
    # As many digits in front of the point, and behind it.
    return bool(old and new and new[1] >= old[1] and new[0] - new[1] >= old[0] - old[1])


def _digits(sql: str) -> tuple[int, int] | None:
    if not sql.startswith("numeric("):
        return None
    precision, scale = sql.removeprefix("numeric(").removesuffix(")").split(",")
    return int(precision), int(scale)


def _takes_all(old: Field, new: Field) -> bool:
    """Return whether the type of `new` takes every value that the one of `old` took."""
    is_text = new.type in _TEXTS and old.kind.python(old).text == "str"
    return is_text or _is_wider(old.kind.sql(old), new.kind.sql(new))


def _narrower(old: Field, new: Field) -> Iterator[str]:
    """Give the keys by which fewer values are valid than before.

    Where the Python type is another as well, everything about its values is.
    """
    types = [one.kind.python(one).text for one in (old, new) if one.type != "enum"]
    if len(set(types)) > 1 or (old.type == "enum") != (new.type == "enum"):
        return
    if old.type != new.type and not {old.type, new.type} <= _TEXTS and not _takes_all(old, new):
        yield "type"
    if old.items != new.items and not {old.items, new.items} <= _TEXTS:
        yield "items"
    limits: Sequence[tuple[str, Any, Any, int]] = (
        ("min", bounds(old)[0], bounds(new)[0], 1),
        ("max", bounds(old)[1], bounds(new)[1], -1),
        ("min_length", old.min_length, new.min_length, 1),
        ("max_length", old.max_length, new.max_length, -1),
    )
    for key, before, after, sign in limits:
        if after is None or before == after:
            continue
        if before is None or (after > before if sign > 0 else after < before):
            yield key
    if new.pattern is not None and new.pattern != old.pattern:
        yield "pattern"
    if new.type == "enum" and set(old.values) - set(new.values):
        yield "values"
