"""Whom the current task works for: its tenant and its user."""

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
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


class acting(ContextDecorator):  # noqa: N801 -- it is used as a function
    """Work for `tenant` as `user` inside the block; what is left out stays as it is outside."""

    # A class, since one is made for every job that runs: a generator costs three times as much.
    def __init__(
        self, *, tenant: UUID | Unset | None = UNSET, user: UUID | Unset | None = UNSET
    ) -> None:
        self._tenant = tenant
        self._user = user
        self._tokens: list[Token[Acting]] = []

    def _recreate_cm(self) -> "acting":
        # As a decorator: calls of several threads have each their own.
        return acting(tenant=self._tenant, user=self._user)

    def __enter__(self) -> Acting:
        outer = _acting.get()
        inner = Acting(
            outer.tenant if self._tenant is UNSET else self._tenant,
            outer.user if self._user is UNSET else self._user,
        )
        self._tokens.append(_acting.set(inner))
        return inner

    def __exit__(self, *_: object) -> None:
        _acting.reset(self._tokens.pop())


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
