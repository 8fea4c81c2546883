"""Rules refuse what the driver or the server would, and name it."""

import datetime as dt
from decimal import Decimal
from uuid import uuid4

import pytest

from forgecore.runtime import rules

AWARE = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
GOOD = [
    (rules.text(min_length=1, max_length=2, pattern="[a-z]+"), ["a", "zz"]),
    (rules.slug(), ["a", "a-b-2"]),
    (rules.email(), ["a@b.c"]),
    (rules.url(), ["http://a", "https://a.b/c?d#e"]),
    (rules.integer(32), [0, -(1 << 31), (1 << 31) - 1]),
    (rules.integer(64, minimum=1, maximum=2), [1, 2]),
    (rules.floating(minimum=0.5), [0.5, 1, 1e308]),
    (rules.decimal(4, 2, minimum=0), [Decimal("99.99"), Decimal("1.000"), Decimal("1E+1")]),
    (rules.boolean, [True, False]),
    (rules.uuid, [uuid4()]),
    (rules.binary, [b""]),
    (rules.aware_datetime(minimum=AWARE), [AWARE]),
    (rules.naive_date(), [dt.date(1, 1, 1)]),
    (rules.naive_time(), [dt.time(0)]),
    (rules.one_of(("a", "b")), ["a"]),
    (rules.json, [{"a": [1, None, True, 1.5]}, [], "", 0, False]),
    (rules.array(rules.integer(32)), [[], [1]]),
    (rules.optional(rules.uuid), [None, uuid4()]),
]
BAD = [
    (rules.text(), [None, 1, b"x", "a\0", "\ud800"]),
    (rules.text(min_length=1, max_length=2, pattern="[a-z]+"), ["", "aaa", "A", "a\n"]),
    (rules.slug(), ["", "A", "a--b", "-a", "a\n"]),
    (rules.email(), ["", "a", "a@b", "a b@c.d", "a@@b.c"]),
    (rules.url(), ["", "a", "ftp://a", "http://", "http://[", "javascript:x"]),
    (rules.integer(32), [1 << 31, True, 1.0, "1", None]),
    (rules.integer(64, minimum=1, maximum=2), [0, 3]),
    (rules.floating(minimum=0.5), [0.4, float("nan"), float("inf"), 10**400, "1", True]),
    (rules.decimal(4, 2, minimum=0), [Decimal("1.005"), Decimal(100), Decimal("NaN"), Decimal(-1), 1.5, 1]),
    (rules.decimal(4, 2), [Decimal("Infinity"), Decimal("-100"), Decimal("0." + "0" * 40 + "1")]),
    (rules.boolean, [0, "true", None]),
    (rules.uuid, ["018f3c1a-0000-7000-8000-000000000000"]),
    (rules.binary, ["", bytearray()]),
    (rules.aware_datetime(), [dt.datetime(2030, 1, 1), dt.date(2030, 1, 1), "2030-01-01",  # noqa: DTZ001
                              dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5))),
                              dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-5)))]),
    (rules.naive_date(minimum=dt.date(2030, 1, 1)), [AWARE, dt.date(2029, 12, 31), "2030-01-01"]),
    (rules.naive_time(), [dt.time(0, tzinfo=dt.UTC), AWARE]),
    (rules.one_of(("a", "b")), ["c", None, 1, ["a"]]),
    (rules.json, [None, float("nan"), {"a": float("inf")}, {1: 2}, {"\0": 1}, ["\ud800"], object(), {"a": {1}}]),
    (rules.array(rules.integer(32)), [None, (1,), ["x"], [None]]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "value"), [(r, v) for r, values in GOOD for v in values])
def test_a_rule_accepts(rule, value):
    assert rule(value) is None


@pytest.mark.parametrize(("rule", "value"), [(r, v) for r, values in BAD for v in values])
def test_a_rule_refuses_with_a_code_and_without_the_value(rule, value):
    code, message = rule(value)

    assert code.islower()
    assert repr(value) not in message
