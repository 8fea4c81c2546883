"""What the plugin adds to forge.toml and to a resource."""

from attrs import field, frozen, validators


@frozen(kw_only=True)
class AuditSettings:
    """[audit] of forge.toml. `keep_days`: for how long a change is remembered."""

    keep_days: int = field(default=365, validator=validators.ge(1))


@frozen(kw_only=True)
class Audit:
    """[audit] of a resource: the fields whose values are remembered, all of them unless said."""

    fields: tuple[str, ...] = ()
