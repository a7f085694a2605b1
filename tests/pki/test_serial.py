"""What a serial number says of when its certificate was issued."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleetroot.pki import issued_at, new_leaf_serial


@pytest.mark.parametrize(
    "now",
    [
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 11, 23, 15, 4, 5, 678901, tzinfo=UTC),
        datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_a_leafs_serial_number_says_when_it_was_issued(now: datetime) -> None:
    assert issued_at(new_leaf_serial(now)) == now


@pytest.mark.parametrize("serial", [1, 2**96 - 1, 2**159 - 1, 2**200])
def test_any_other_serial_number_is_read_without_failing(serial: int) -> None:
    assert issued_at(serial) in (None, datetime(1970, 1, 1, tzinfo=UTC))
