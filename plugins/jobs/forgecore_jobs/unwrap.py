"""Unwrap: the psycopg connection below SQLAlchemy's and Django's, with its open transaction."""

from typing import Any, Protocol, TypeGuard

from psycopg import AsyncConnection, Connection


class Wrapping(Protocol):
    """A connection or session of SQLAlchemy, or a connection of Django."""

    @property
    def connection(self) -> Any:  # noqa: ANN401 -- each has one of its own
        """What leads to the connection below."""
        ...


class NoPsycopgError(TypeError):
    """There is no psycopg 3 connection below; the text says what there is."""

    def __init__(self, source: Any, found: Any) -> None:  # noqa: ANN401
        super().__init__(
            f"{type(source).__module__}.{type(source).__qualname__} has no connection of "
            f"psycopg 3 but {type(found).__module__}.{type(found).__qualname__}"
        )


def psycopg_of(source: Any) -> Connection[Any]:  # noqa: ANN401 -- whatever wraps one
    """Return the connection below; NoPsycopgError if there is another driver's or none."""
    if _is_sync(source):
        return source
    if callable(ensure := getattr(source, "ensure_connection", None)):
        ensure()  # Django connects late
    _begin(source)
    below = getattr(source, "connection", None)
    if callable(below):
        return psycopg_of(source.connection())  # a session of SQLAlchemy
    driver = source if below is None else getattr(below, "driver_connection", below)
    if _is_sync(driver):
        return driver
    raise NoPsycopgError(source, driver)


async def psycopg_async_of(source: Any) -> AsyncConnection[Any]:  # noqa: ANN401 -- as above
    """Return the connection below an asynchronous connection or session; see `psycopg_of`."""
    if _is_async(source):
        return source
    if not callable(getattr(source, "get_raw_connection", None)):
        if not callable(getattr(source, "connection", None)):
            raise NoPsycopgError(source, source)
        return await psycopg_async_of(await source.connection())  # a session of SQLAlchemy
    await source.run_sync(_begin)
    driver = (await source.get_raw_connection()).driver_connection
    if _is_async(driver):
        return driver
    raise NoPsycopgError(source, driver)


def _is_sync(thing: object) -> TypeGuard[Connection[Any]]:
    return isinstance(thing, Connection)


def _is_async(thing: object) -> TypeGuard[AsyncConnection[Any]]:
    return isinstance(thing, AsyncConnection)


def _begin(source: object) -> None:
    # SQLAlchemy commits nothing that it has not begun, and does not see what runs below it.
    begin, is_begun = getattr(source, "begin", None), getattr(source, "in_transaction", None)
    if callable(begin) and callable(is_begun) and not is_begun():
        begin()
