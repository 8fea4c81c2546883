"""Create with 0, 1 and 2 hooks and get by id, against raw psycopg, SQLAlchemy, SQLModel and Django.

Every way works on one connection of the same server, in autocommit, rounds interleaved. The
figures are medians over the rounds, as multiples of the raw statement's time.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from forgecore.database.embedded import Embedded
from forgecore.runtime import acting, uuid7

ROUNDS, CALLS, WARM = 9, 400, 60
SCHEMA = """
[resource]
name = "{name}"
tenant_scoped = true

[fields]
title = {{ type = "string", required = true, max_length = 200 }}
price = {{ type = "decimal", precision = 10, scale = 2, required = true, min = 0 }}
sku   = {{ type = "string", required = true }}
"""
HOOK = '[[hooks.after_create]]\nkind = "{kind}"\n'


def main() -> None:
    if len(sys.argv) > 1:
        side_by_side(sys.argv[1])
        return
    for commit in ("on", "off"):
        # Durable commits hide what the client costs; without them the client is what is seen.
        print(f"\n== synchronous_commit {commit}", flush=True)
        subprocess.run([sys.executable, __file__, commit], check=True)


def side_by_side(commit: str) -> None:
    with tempfile.TemporaryDirectory(prefix="forge-bench-") as name:
        folder = Path(name)
        write(folder)
        server = Embedded(folder=folder / ".forge", settings={"synchronous_commit": commit})
        url = server.start()
        os.environ["FORGE_PROJECT_DIR"] = str(folder)
        os.environ["FORGE_DATABASE_URL"] = url
        try:
            for command in (["build"], ["migrate", "up"], ["migrate", "diff"], ["migrate", "up"]):
                subprocess.run(
                    [sys.executable, "-m", "forgecore", *command],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=folder,
                )
            sys.path.insert(0, str(folder))
            run(url)
        finally:
            server.stop()


def write(folder: Path) -> None:
    (folder / "schema").mkdir()
    (folder / "forge.toml").write_text('[project]\nname = "bench"\nplugins = ["jobs"]\n')
    for name, kinds in (("Plain", []), ("One", ["a"]), ("Two", ["b", "c"])):
        text = SCHEMA.format(name=name) + "".join(HOOK.format(kind=kind) for kind in kinds)
        (folder / "schema" / f"{name.lower()}.toml").write_text(text)


def run(url: str) -> None:
    tenant = uuid4()
    creates: dict[str, Callable[[], object]] = {}
    gets: dict[str, Callable[[], object]] = {}
    raw(url, tenant, creates, gets)
    ours(url, creates, gets)
    orm(url, tenant, creates, gets)
    sqlmodel(url, tenant, creates, gets)
    django(url, tenant, creates, gets)
    with acting(tenant=tenant):
        for title, ways in (("create", creates), ("get by id", gets)):
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("VACUUM ANALYZE")  # nobody's plan is of an empty table
            times = measure(ways)
            base = times["raw psycopg"]
            print(f"\n{title}: median of {ROUNDS} rounds x {CALLS} calls")
            for way, seconds in times.items():
                print(f"  {way:<34} {seconds * 1e6:8.0f} us   {seconds / base:5.2f} x raw")
            if title == "create":
                goal(
                    "create + 2 jobs <= 1.25 x a bare INSERT",
                    times["forgecore + 2 jobs"] / base,
                    1.25,
                )
            else:
                goal("get <= 1.15 x raw psycopg", times["forgecore"] / base, 1.15)
            goal("at least 5 x SQLAlchemy", times["forgecore"] / times["SQLAlchemy"], 1 / 5)


def goal(text: str, value: float, limit: float) -> None:
    print(
        f"  {'reached' if value <= limit else 'MISSED '}  {text}: {value:.2f} (limit {limit:.2f})"
    )


def measure(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for call in ways.values():
        for _ in range(WARM):
            call()
    for _ in range(ROUNDS):
        for name, call in ways.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            seen[name].append((time.perf_counter() - start) / CALLS)
    return {name: statistics.median(times) for name, times in seen.items()}


def raw(url: str, tenant: object, creates: dict[str, Any], gets: dict[str, Any]) -> None:
    conn = psycopg.connect(url, autocommit=True)
    insert = (
        "INSERT INTO plains (id, tenant_id, title, price, sku) VALUES (%s, %s, %s, %s, %s)"
        " RETURNING id, tenant_id, title, price, sku"
    )
    select = "SELECT id, tenant_id, title, price, sku FROM plains WHERE id = %s AND tenant_id = %s"
    known = uuid7()
    conn.execute(insert, (known, tenant, "x", Decimal("1.00"), "x"))

    def create() -> object:
        return conn.execute(
            insert, (uuid7(), tenant, "Lamp", Decimal("9.90"), "L-1"), prepare=True
        ).fetchone()

    creates["raw psycopg"] = create
    gets["raw psycopg"] = lambda: conn.execute(select, (known, tenant), prepare=True).fetchone()


def ours(url: str, creates: dict[str, Any], gets: dict[str, Any]) -> None:
    from bench.gen.actions.one import OneActions
    from bench.gen.actions.plain import PlainActions
    from bench.gen.actions.two import TwoActions
    from bench.gen.models.one import OneCreate
    from bench.gen.models.plain import PlainCreate
    from bench.gen.models.two import TwoCreate

    conn = psycopg.connect(url, autocommit=True)
    given = {"title": "Lamp", "price": Decimal("9.90"), "sku": "L-1"}
    plain, one, two = PlainActions(conn), OneActions(conn), TwoActions(conn)
    creates["forgecore"] = lambda: plain.create(PlainCreate(**given))
    creates["forgecore + 1 job"] = lambda: one.create(OneCreate(**given))
    creates["forgecore + 2 jobs"] = lambda: two.create(TwoCreate(**given))
    row = conn.execute("SELECT id FROM plains LIMIT 1").fetchone()
    assert row is not None
    gets["forgecore"] = lambda: plain.get(row[0])


def orm(url: str, tenant: Any, creates: dict[str, Any], gets: dict[str, Any]) -> None:
    import sqlalchemy as sa
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class Plain(Base):
        __tablename__ = "plains"
        id: Mapped[Any] = mapped_column(sa.Uuid, primary_key=True)
        tenant_id: Mapped[Any] = mapped_column(sa.Uuid)
        title: Mapped[str]
        price: Mapped[Any] = mapped_column(sa.Numeric(10, 2))
        sku: Mapped[str]

    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    known = _known(url)

    def create() -> object:
        with Session(engine, expire_on_commit=False) as session:
            made = Plain(
                id=uuid7(), tenant_id=tenant, title="Lamp", price=Decimal("9.90"), sku="L-1"
            )
            session.add(made)
            session.commit()
            return made

    def get() -> object:
        with Session(engine) as session:
            return session.execute(
                sa.select(Plain).where(Plain.id == known, Plain.tenant_id == tenant)
            ).scalar_one()

    creates["SQLAlchemy"], gets["SQLAlchemy"] = create, get


def sqlmodel(url: str, tenant: Any, creates: dict[str, Any], gets: dict[str, Any]) -> None:
    import uuid

    from sqlmodel import Field, Session, SQLModel, create_engine, select

    class Plain(SQLModel, table=True):
        __tablename__ = "plains"
        id: uuid.UUID = Field(primary_key=True)
        tenant_id: uuid.UUID
        title: str = Field(max_length=200)
        price: Decimal = Field(max_digits=10, decimal_places=2)
        sku: str

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    known = _known(url)

    def create() -> object:
        with Session(engine, expire_on_commit=False) as session:
            made = Plain(
                id=uuid7(), tenant_id=tenant, title="Lamp", price=Decimal("9.90"), sku="L-1"
            )
            session.add(made)
            session.commit()
            return made

    def get() -> object:
        with Session(engine) as session:
            return session.exec(
                select(Plain).where(Plain.id == known, Plain.tenant_id == tenant)
            ).one()

    creates["SQLModel"], gets["SQLModel"] = create, get


def django(url: str, tenant: Any, creates: dict[str, Any], gets: dict[str, Any]) -> None:
    import django as package
    from django.conf import settings

    parts = psycopg.conninfo.conninfo_to_dict(url)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts["dbname"],
                "USER": parts["user"],
                "HOST": parts["host"],
            }
        },
        USE_TZ=True,
    )
    package.setup()
    from django.db import models

    class Plain(models.Model):  # noqa: DJ008
        id = models.UUIDField(primary_key=True, default=uuid7)
        tenant_id = models.UUIDField()
        title = models.CharField(max_length=200)
        price = models.DecimalField(max_digits=10, decimal_places=2)
        sku = models.TextField()

        class Meta:
            app_label = "bench"
            db_table = "plains"
            managed = False

    known = _known(url)
    creates["Django"] = lambda: Plain.objects.create(
        tenant_id=tenant, title="Lamp", price=Decimal("9.90"), sku="L-1"
    )
    gets["Django"] = lambda: Plain.objects.get(id=known, tenant_id=tenant)


def _known(url: str) -> Any:
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT id FROM plains LIMIT 1").fetchone()
        assert row is not None
        return row[0]


if __name__ == "__main__":
    main()
