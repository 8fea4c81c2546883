"""Whom the current task works for: its tenant and its user."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from attrs import frozen

from forgecore.runtime.errors import TenantRequiredError
from forgecore.runtime.unset import UNSET, Unset


@frozen
class Acting:
    """The tenant and the user of a block."""

    tenant: UUID | None = None
    user: UUID | None = None


_acting: ContextVar[Acting] = ContextVar("forgecore_acting", default=Acting())  # noqa: B039 -- frozen


@contextmanager
def acting(
    *, tenant: UUID | Unset | None = UNSET, user: UUID | Unset | None = UNSET
) -> Generator[Acting]:
    """Work for `tenant` as `user` inside the block; what is left out stays as it is outside."""
    outer = _acting.get()
    inner = Acting(
        tenant=outer.tenant if tenant is UNSET else tenant,
        user=outer.user if user is UNSET else user,
    )
    token = _acting.set(inner)
    try:
        yield inner
    finally:
        _acting.reset(token)


def current_tenant(resource: str = "") -> UUID:
    """Return the tenant of the current task; TenantRequiredError names the resource without one."""
    if (tenant := _acting.get().tenant) is None:
        raise TenantRequiredError(resource)
    return tenant


def current_tenant_or_none() -> UUID | None:
    """Return the tenant of the current task, or None outside of any."""
    return _acting.get().tenant


def current_user() -> UUID | None:
    """Return the user of the current task, or None outside of any."""
    return _acting.get().user
