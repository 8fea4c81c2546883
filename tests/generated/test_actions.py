"""What generated actions do, in both flavours, on a real server."""

import uuid
from decimal import Decimal

import psycopg
import pytest

from forgecore.runtime import (
    ConflictError,
    InvalidCursorError,
    InvalidReferenceError,
    NotFoundError,
    StillReferencedError,
    SuppressedError,
    TenantRequiredError,
    ValidationError,
    acting,
)


@pytest.fixture
def products(flavour):
    return flavour.actions("product", "Product")


@pytest.fixture
def categories(flavour):
    return flavour.actions("category", "Category")


def new(sku="L-1", **more):
    from shop.gen.models.product import ProductCreate

    return ProductCreate(**{"title": "Lamp", "price": Decimal("9.90"), "sku": sku, **more})


def change(**what):
    from shop.gen.models.product import ProductUpdate

    return ProductUpdate(**what)


def test_create_returns_the_row_as_the_database_has_it(products, tenant):
    made = products.create(new())

    assert products.get(made.id) == made
    assert (made.title, made.price, made.stock, made.tenant_id) == (
        "Lamp",
        Decimal("9.90"),
        0,
        tenant,
    )
    assert made.id.version == 7
    assert made.created_at.tzinfo is not None


def test_update_changes_only_what_is_given(products, tenant):
    made = products.create(new(note="old"))

    changed = products.update(made.id, change(title="Torch", note=None))

    assert (changed.title, changed.note, changed.price) == ("Torch", None, made.price)
    assert changed.updated_at > made.updated_at


def test_update_that_changes_nothing_writes_nothing(products, tenant, sql):
    made = products.create(new())
    before = sql.execute("SELECT xmin::text FROM products").fetchone()

    same = products.update(made.id, change(title="Lamp"))
    empty = products.update(made.id, change())

    assert same == empty == made
    assert sql.execute("SELECT xmin::text FROM products").fetchone() == before


def test_another_tenant_sees_and_changes_nothing(products, tenant):
    made = products.create(new())

    with acting(tenant=uuid.uuid4()):
        assert list(products.list()) == []
        for call in (
            lambda: products.get(made.id),
            lambda: products.update(made.id, change(title="x")),
            lambda: products.delete(made.id),
        ):
            with pytest.raises(NotFoundError):
                call()

    assert products.get(made.id).title == "Lamp"


def test_without_a_tenant_nothing_is_sent(products, sql):
    for call in (lambda: products.create(new()), lambda: products.get(uuid.uuid4()), products.list):
        with pytest.raises(TenantRequiredError) as error:
            call()
        assert "product" in str(error.value)

    assert sql.execute("SELECT count(*) FROM products").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM forge.jobs").fetchone() == (0,)


def test_a_taken_value_names_the_field_and_never_the_value(products, tenant):
    products.create(new("SECRET-7"))

    with pytest.raises(ConflictError) as error:
        products.create(new("SECRET-7"))

    assert error.value.fields == ("sku",)
    assert "SECRET-7" not in str(error.value)
    assert "SECRET-7" not in str(error.value.to_problem())


def test_unique_is_per_tenant_and_among_live_rows(products, tenant):
    first = products.create(new())
    with acting(tenant=uuid.uuid4()):
        products.create(new())

    products.delete(first.id)
    products.create(new())

    with pytest.raises(ConflictError):
        products.restore(first.id)


def test_soft_delete_hides_and_restore_brings_back(products, tenant):
    made = products.create(new())

    products.delete(made.id)
    for call in (products.get, products.delete):
        with pytest.raises(NotFoundError):
            call(made.id)
    assert list(products.list()) == []

    assert products.restore(made.id).deleted_at is None
    assert products.get(made.id).title == "Lamp"
    with pytest.raises(NotFoundError):
        products.restore(made.id)


def test_every_fault_of_an_input_comes_at_once(products, tenant):
    with pytest.raises(ValidationError) as error:
        products.create(new("a\0b", title="x" * 201, price=Decimal("-1.005"), stock=1 << 31))

    assert {(e.field, e.code) for e in error.value.errors} == {
        ("sku", "characters"),
        ("title", "too_long"),
        ("price", "scale"),
        ("stock", "range"),
    }


def test_a_reference_must_be_live_and_of_the_same_tenant(products, categories, tenant):
    from shop.gen.models.category import CategoryCreate

    live = categories.create(CategoryCreate(name="live"))
    dead = categories.create(CategoryCreate(name="dead"))
    categories.delete(dead.id)
    with acting(tenant=uuid.uuid4()):
        foreign = categories.create(CategoryCreate(name="foreign"))
    made = products.create(new(category_id=live.id))

    for bad in (dead.id, foreign.id, uuid.uuid4()):
        with pytest.raises(InvalidReferenceError) as error:
            products.create(new(f"sku-{bad}", category_id=bad))
        assert error.value.fields == ("category_id",)
        with pytest.raises(InvalidReferenceError):
            products.update(made.id, change(category_id=bad))

    assert products.get(made.id).category_id == live.id
    assert products.update(made.id, change(category_id=None)).category_id is None


def test_soft_delete_is_refused_while_live_rows_refer(categories, tenant):
    from shop.gen.models.category import CategoryCreate

    parent = categories.create(CategoryCreate(name="parent"))
    child = categories.create(CategoryCreate(name="child", parent_id=parent.id))

    with pytest.raises(StillReferencedError) as error:
        categories.delete(parent.id)
    assert error.value.tables == ("categories",)

    categories.delete(child.id)
    categories.delete(parent.id)


def test_restrict_refuses_a_real_delete(products, flavour, tenant, sql):
    from shop.gen.models.review import ReviewCreate

    reviews = flavour.actions("review", "Review")
    product = products.create(new())
    review = reviews.create(ReviewCreate(stars=5, product_id=product.id))

    with pytest.raises(StillReferencedError) as error:
        products.delete(product.id)
    assert error.value.tables == ("reviews",)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        sql.execute("DELETE FROM products")

    reviews.delete(review.id)
    products.delete(product.id)


def test_a_trigger_that_suppresses_the_row_is_told(products, tenant, sql):
    sql.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER no BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION no()"
    )

    with pytest.raises(SuppressedError):
        products.create(new())

    assert sql.execute("SELECT count(*) FROM forge.jobs").fetchone() == (0,)


def test_pages_of_every_size_hold_every_row_once(products, tenant):
    from shop.gen.models.product import ProductColumns as C

    made = [
        products.create(new(f"s{n}", title=f"t{n % 3}", price=Decimal(n % 4), stock=n % 2))
        for n in range(11)
    ]
    orders = {
        "id": (C.id, lambda p: 0),
        "title": (C.title, lambda p: p.title),
        "price": (C.price, lambda p: p.price),
        "stock": (C.stock, lambda p: p.stock),
        "created_at": (C.created_at, lambda p: p.created_at),
    }
    for column, key in orders.values():
        for descending in (False, True):
            order = column.desc() if descending else column.asc()
            expected = sorted(made, key=lambda p: (key(p), p.id), reverse=descending)
            for size in (1, 2, 3, 5, 10, 11, 12):
                seen, after = [], None
                while True:
                    page = products.list(order_by=order, limit=size, after=after)
                    seen += page.items
                    if (after := page.next) is None:
                        break
                assert [p.id for p in seen] == [p.id for p in expected]


def test_filters_combine(products, tenant):
    from shop.gen.models.product import ProductColumns as C

    for n, title in enumerate(["Red lamp", "Blue lamp", "100% wool", "a_b"]):
        products.create(new(f"s{n}", title=title, stock=n, note="n" if n % 2 else None))

    def titles(where):
        return {p.title for p in products.list(where)}

    assert titles(C.title.contains("LAMP")) == {"Red lamp", "Blue lamp"}
    assert titles(C.title.contains("0%")) == {"100% wool"}
    assert titles(C.title.starts_with("a_")) == {"a_b"}
    assert titles(C.title.eq("a_b") | C.stock.lt(1)) == {"a_b", "Red lamp"}
    assert titles(C.stock.gte(1) & C.stock.lte(2)) == {"Blue lamp", "100% wool"}
    assert titles(C.stock.is_in([0, 3])) == {"Red lamp", "a_b"}
    assert titles(C.stock.is_in([])) == set()
    assert titles(C.note.is_null()) == {"Red lamp", "100% wool"}
    assert titles(~C.note.eq("n")) == {"Red lamp", "100% wool"}
    assert titles(C.note.ne("n")) == {"Red lamp", "100% wool"}
    assert titles(C.price.gt(Decimal("9.9"))) == set()


def test_a_damaged_cursor_is_the_callers_fault(products, tenant):
    import base64
    import json

    from shop.gen.models.product import ProductColumns as C

    for n in range(3):
        products.create(new(f"s{n}"))
    cursor = products.list(order_by=C.price.asc(), limit=1).next

    def forged(body):
        return base64.urlsafe_b64encode(json.dumps(body).encode()).decode()

    bad = [
        "",
        "zzz",
        "ü",
        cursor[:-3],
        forged([1, 2]),
        forged(["price", False, "not a number", str(uuid.uuid4())]),
        forged(["price", False, "a\0b", str(uuid.uuid4())]),
        forged(["price", False, "1", "no id"]),
        forged(["price", True, "1", str(uuid.uuid4())]),
    ]
    for one in bad:
        with pytest.raises(InvalidCursorError):
            products.list(order_by=C.price.asc(), after=one)
    with pytest.raises(ValidationError):
        products.list(limit=0)


def test_a_filter_that_no_text_can_hold_is_the_callers_fault(products, tenant):
    from shop.gen.models.product import ProductColumns as C

    for bad in ("a\0b", "\ud800"):
        with pytest.raises(ValidationError):
            products.list(C.title.eq(bad))


def test_a_missing_table_names_the_command(products, tenant, sql):
    from forgecore.runtime import NotMigratedError

    sql.execute("DROP TABLE products CASCADE")

    with pytest.raises(NotMigratedError, match="forgecore migrate up"):
        products.get(uuid.uuid4())


def test_an_override_checks_more(shop, db, tenant):
    from shop.gen.actions.product import ProductActions

    class Strict(ProductActions):
        def validate_create(self, data, check):
            super().validate_create(data, check)
            if data.title.islower():
                check.add("title", "case", "must have a capital")

    with pytest.raises(ValidationError) as error:
        Strict(db).create(new(title="lamp", price=Decimal(-1)))
    assert error.value.fields == ("price", "title")


def test_every_type_comes_back_as_it_went(flavour):
    import datetime as dt

    from shop.gen.models.order import OrderCreate, OrderUpdate

    orders = flavour.actions("order", "Order")
    given = {
        "a_string": 'ab"\\',
        "a_text": "ü\n漢字 %s {x}",
        "a_slug": "a-b-1",
        "an_email": "a@b.example",
        "a_url": "https://example.org/x?y=1",
        "an_int": -5,
        "a_bigint": -(1 << 63),
        "a_float": 1e300,
        "a_decimal": Decimal("-1234567890123456.7891"),
        "a_bool": False,
        "a_uuid": uuid.uuid4(),
        "some_bytes": b"\0\xff",
        "moment": dt.datetime(1, 1, 2, tzinfo=dt.UTC),
        "date": dt.date(2000, 1, 1),
        "time": dt.time(23, 59, 59, 999999),
        "state": 'say "x"',
        "meta": {"a": None, "b": [True, {"c": 1.5}], "": ""},
        "tags": ["", "NULL", "a,b", '{"x"}', "\\"],
        "prices": [Decimal("1.25"), Decimal("-9999.99")],
        "days": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
        "order": 0,
        "user": "",
    }

    made = orders.create(OrderCreate(**given))
    default = orders.create(OrderCreate())

    assert {name: getattr(made, name) for name in given} == given
    assert orders.get(made.id) == made
    assert default.meta == {"a": [1, 2.5, "x"]}
    assert default.tags == ["a", 'b"c']
    assert default.moment == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    assert (default.time, default.prices, default.state) == (dt.time(9, 30), None, "new")
    changed = orders.update(default.id, OrderUpdate(meta=[1], tags=[], days=[], order=7))
    assert (changed.meta, changed.tags, changed.days, changed.order) == ([1], [], [], 7)
    assert orders.update(default.id, OrderUpdate(meta=[1], tags=[], days=[], order=7)) == changed


def test_the_databases_defaults_are_those_of_the_inputs(flavour, sql):
    from shop.gen.models.order import OrderCreate

    orders = flavour.actions("order", "Order")
    default = orders.create(OrderCreate())
    sql.execute('INSERT INTO "select" (id) VALUES (%s)', (uuid.UUID(int=1),))

    plain = orders.get(uuid.UUID(int=1))

    for name in (
        "a_string",
        "an_int",
        "a_float",
        "a_decimal",
        "a_bool",
        "a_uuid",
        "moment",
        "date",
        "time",
        "state",
        "meta",
        "tags",
    ):
        assert getattr(plain, name) == getattr(default, name), name


def test_composite_unique_names_its_fields(flavour):
    import datetime as dt

    from shop.gen.models.order import OrderCreate

    orders = flavour.actions("order", "Order")
    orders.create(OrderCreate(order=1, date=dt.date(2030, 1, 1)))

    with pytest.raises(ConflictError) as error:
        orders.create(OrderCreate(order=1, date=dt.date(2030, 1, 1)))
    assert error.value.fields == ("order", "date")
