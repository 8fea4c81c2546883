"""A mailer that prints: what a worker depends on is made once, in a module of its own."""

from uuid import UUID

from attrs import frozen


@frozen
class Mailer:
    """Sends announcements."""

    sender: str

    def announce(self, tenant: UUID | None, title: str) -> None:
        """Tell the tenant's customers of a product."""
        print(
            f"  mail from {self.sender} to the customers of {tenant}: {title} is here", flush=True
        )


mailer = Mailer(sender="shop@example.org")
