% for args in view.classes:
@frozen
class ${args.name}:
    """Arguments of the job `${args.kind}`."""

    kind: ClassVar[str] = "${args.kind}"
    resource_id: UUID
    tenant_id: ${args.tenant}


% endfor
