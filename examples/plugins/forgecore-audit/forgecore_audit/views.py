"""What the plugin's templates print."""

from attrs import frozen

from forgecore.plugin import Resource
from forgecore_audit.schema import Audit


@frozen(kw_only=True)
class AuditView:
    """A resource that is audited. `was` and `became` are SQL: its values before and after."""

    resource: Resource
    audit: Audit
    was: str
    became: str
    tenant: str

    @classmethod
    def of(cls, resource: Resource, audit: Audit) -> "AuditView":
        """Make the view of a resource with the table [audit]."""
        names = audited_names(resource, audit)

        def values(row: str) -> str:
            pairs = ", ".join(f"'{name}', {row}.\"{name}\"" for name in names)
            return f"jsonb_build_object({pairs})"

        return cls(
            resource=resource,
            audit=audit,
            was=values("old"),
            became=values("new"),
            tenant="new.tenant_id" if resource.tenant_scoped else "NULL::uuid",
        )


@frozen(kw_only=True)
class EventView:
    """One statement: the event that it writes, and the values that it has."""

    of: AuditView
    event: str
    was: str
    became: str
    rows: str


def audited_names(resource: Resource, audit: Audit) -> list[str]:
    """Return the columns whose values are remembered."""
    every = [field.name for field in resource.fields]
    every += [relation.attribute for relation in resource.relations]
    return [name for name in every if not audit.fields or name in audit.fields]


def event_view(view: AuditView, event: str) -> EventView:
    """Return the arm of a statement: `new` holds the rows as written, `old` as they were."""
    both = "new JOIN old ON old.id = new.id"
    match event:
        case "create":
            return EventView(of=view, event=event, was="NULL", became=view.became, rows="new")
        case "update":
            return EventView(of=view, event=event, was=view.was, became=view.became, rows=both)
        case _:
            return EventView(of=view, event=event, was=view.was, became="NULL", rows=both)
