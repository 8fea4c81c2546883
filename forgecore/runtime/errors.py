"""What actions raise: one hierarchy, with a code, an HTTP status and the fields at fault."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

from attrs import frozen
from psycopg import DataError, IntegrityError, InterfaceError, OperationalError
from psycopg import Error as DriverError
from psycopg import errors as pg

Constraints = Mapping[str, tuple[str, ...]]
"""Constraint or unique index -> the fields that it guards."""

PLUGINS: Final = "forge"
"""The schema of plugins' tables: what fails there is no fault of a record's fields."""


@frozen
class FieldError:
    """One fault of one field. The message never holds a value."""

    field: str
    code: str
    message: str


class ForgeError(Exception):
    """Base of every error that forgecore raises on purpose."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, errors: Iterable[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields at fault."""
        return tuple(error.field for error in self.errors)

    def to_problem(self) -> dict[str, object]:
        """Return the members of a problem document (RFC 9457)."""
        return {
            "type": f"urn:forgecore:{self.code}",
            "title": (type(self).__doc__ or "").partition("\n")[0].rstrip("."),
            "status": self.status,
            "detail": str(self),
            "errors": [
                {"field": error.field, "code": error.code, "message": error.message}
                for error in self.errors
            ],
        }


class ValidationError(ForgeError):
    """Values that the schema does not allow."""

    code = "invalid"
    status = 422


class NotFoundError(ForgeError):
    """No such record, or not one of this tenant."""

    code = "not_found"
    status = 404


class ConflictError(ForgeError):
    """A value that must be unique is taken."""

    code = "conflict"
    status = 409


class InvalidReferenceError(ForgeError):
    """A reference to a record that does not exist, is deleted or is another tenant's."""

    code = "invalid_reference"
    status = 422


class StillReferencedError(ForgeError):
    """Other records refer to the one to delete."""

    code = "still_referenced"
    status = 409

    def __init__(self, resource: str, tables: Sequence[str] = ()) -> None:
        by = f" by {', '.join(tables)}" if tables else ""
        super().__init__(f"this {resource} is still referred to{by}")
        self.tables = tuple(tables)


class ForbiddenError(ForgeError):
    """The database refuses this to its role, or a row policy does."""

    code = "forbidden"
    status = 403


class TenantRequiredError(ForgeError):
    """A tenant-scoped action outside of any tenant."""

    code = "tenant_required"
    status = 400

    def __init__(self, resource: str = "") -> None:
        what = f"{resource} belongs to a tenant" if resource else "no tenant is set"
        super().__init__(f"{what}: wrap the call in `with acting(tenant=...)`")


class InvalidCursorError(ForgeError):
    """A page cursor that is damaged, or of another order."""

    code = "invalid_cursor"
    status = 400


class SuppressedError(ForgeError):
    """A trigger of the database suppressed the row."""

    code = "suppressed"
    status = 409

    def __init__(self, resource: str) -> None:
        super().__init__(f"a trigger suppressed the {resource}")


class EnqueueError(ForgeError):
    """A job could not be written, and so nothing was."""

    code = "enqueue"
    status = 503

    def __init__(self, kinds: Sequence[str], reason: str) -> None:
        super().__init__(f"cannot enqueue {', '.join(kinds)}: {reason}")
        self.kinds = tuple(kinds)


class RetryableError(ForgeError):
    """A serialization failure or deadlock: the whole transaction may be run again."""

    code = "retry"
    status = 503


class TransactionAbortedError(ForgeError):
    """The server turned COMMIT into ROLLBACK, since a statement before it had failed."""

    code = "transaction_aborted"
    status = 500

    def __init__(self) -> None:
        super().__init__("nothing was committed: an earlier statement of the transaction failed")


class TransactionEndedError(ForgeError):
    """A transaction was used after its block."""

    code = "transaction_ended"
    status = 500

    def __init__(self) -> None:
        super().__init__("this transaction has ended")


class NotMigratedError(ForgeError):
    """The database lacks a table or column that the code uses."""

    code = "not_migrated"
    status = 503

    def __init__(self, missing: str) -> None:
        super().__init__(f"{missing}: run `forgecore migrate up`")


class DatabaseUnavailableError(ForgeError):
    """No server answers, or it went away in the middle."""

    code = "database_unavailable"
    status = 503


class SettingsError(ForgeError):
    """A setting of forge.toml or of the environment is not usable."""

    code = "settings"
    status = 500


def translate(
    error: DriverError | UnicodeEncodeError,
    constraints: Constraints,
    *,
    resource: str = "record",
    deleting: bool = False,
) -> ForgeError | None:
    """Return the typed error behind a driver's, or None if nothing is known of it.

    `deleting`: a foreign key that fails is then one that points here.
    """
    # The diagnostics' detail holds values, at times a whole row: it is never shown.
    match error:
        case IntegrityError() if error.diag.schema_name == PLUGINS:
            return None
        case pg.ForeignKeyViolation() if deleting:
            return StillReferencedError(resource, [error.diag.table_name or ""])
        case pg.ForeignKeyViolation():
            return _of_fields(
                InvalidReferenceError, error, constraints, "unknown", "does not exist"
            )
        case pg.UniqueViolation():
            return _of_fields(ConflictError, error, constraints, "taken", "is already taken")
        case pg.CheckViolation() | pg.ExclusionViolation():
            return _of_fields(ValidationError, error, constraints, "invalid", "is not allowed")
        case pg.NotNullViolation():
            field = error.diag.column_name or "a field"
            return ValidationError(
                f"{field} is required", [FieldError(field, "required", "is required")]
            )
        case pg.SerializationFailure() | pg.DeadlockDetected():
            return RetryableError("concurrent transactions got in each other's way: run it again")
        case pg.InFailedSqlTransaction():
            return TransactionAbortedError()
        case pg.UndefinedTable() | pg.UndefinedColumn() | pg.InvalidSchemaName():
            return NotMigratedError(error.diag.message_primary or "a table is missing")
        case pg.InsufficientPrivilege():
            return ForbiddenError("the database does not allow this")
        case pg.QueryCanceled():
            return None
        case DataError() | UnicodeEncodeError():
            return ValidationError(f"a value of the {resource} cannot be stored")
        case pg.ProgramLimitExceeded():
            return ValidationError(f"a value of the {resource} is too long for an index")
        case pg.LockNotAvailable():
            return RetryableError("a lock was not to be had in time: run it again")
        case InterfaceError():
            return DatabaseUnavailableError("the connection is closed")
        case OperationalError():
            return DatabaseUnavailableError("the database went away or does not answer")
        case _:
            return None


def _of_fields(
    kind: type[ConflictError | InvalidReferenceError | ValidationError],
    error: DriverError,
    constraints: Constraints,
    code: str,
    text: str,
) -> ForgeError:
    name = error.diag.constraint_name or ""
    fields = constraints.get(name, ())
    summary = f"{', '.join(fields) or name} {text}"
    return kind(summary, [FieldError(field, code, text) for field in fields])
