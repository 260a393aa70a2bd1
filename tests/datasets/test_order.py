"""The endless order: each item once per epoch, whatever the batches."""

from course_lib.datasets.order import endless


def test_every_epoch_holds_every_item_once_in_another_order():
    first, second = endless(range(10), 10), endless(range(10, 20), 10)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_position_alone_decides():
    whole = endless(range(100), 7, seed=3)
    assert [endless([i], 7, seed=3)[0] for i in range(100)] == whole
    assert endless(range(100), 7, seed=4) != whole
