"""Slots: given once, for ever."""

import pytest

from gateway.errors import SettingsError
from gateway.shm.slots import Slots


def test_slots_stay_and_run_out_with_a_reason() -> None:
    slots = Slots(2, "model versions")
    assert [slots.of("a", 1), slots.of("b", 1), slots.of("a", 1)] == [0, 1, 0]
    with pytest.raises(SettingsError, match="2 model versions have been served"):
        slots.of("c", 1)
