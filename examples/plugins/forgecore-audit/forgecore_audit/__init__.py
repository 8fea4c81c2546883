"""Who changed what: what generated code, and programs, import of the plugin in production."""

from forgecore_audit.history import Entry, entries
from forgecore_audit.users import as_user_of, needs_user, user_of_task

__all__ = ["Entry", "as_user_of", "entries", "needs_user", "user_of_task"]
