"""Energy and emissions: the formula by hand, published figures that it should give, refusals."""

import pytest

from course_lib.training.energy import INTENSITY, PUBLISHED, PUE, Range, emissions, energy


def test_one_machine_by_hand():
    """A kettle of 2 kW for half an hour, in a building that adds a fifth, on 400 g/kWh."""
    kwh = energy(0.5, watts=(2000, 2000), pue=(1.2, 1.2))
    assert kwh == pytest.approx((1.2, 1.2))
    assert emissions(kwh, intensity=(0.4, 0.4)) == pytest.approx((0.48, 0.48))


def test_strubells_bert_follows_from_their_watts_and_hours():
    """Table 3: 12,041.51 W for 79 hours, times their PUE and 0.954 pounds per kWh: 1,438 pounds."""
    kwh = energy(79, watts=(12_041.51,) * 2, pue=(1.58, 1.58))
    (bert,) = (each for each in PUBLISHED if each.what.startswith("BERT"))
    pounds_per_kwh = 0.954 * 0.45359237
    assert emissions(kwh, (pounds_per_kwh,) * 2).low == pytest.approx(bert.kg, rel=0.005)


def test_blooms_energy_and_emissions_give_the_french_grid():
    (bloom,) = (each for each in PUBLISHED if each.what.startswith("BLOOM"))
    assert bloom.kg / bloom.kwh == pytest.approx(0.057, abs=0.0005)
    assert INTENSITY.low < bloom.kg / bloom.kwh < INTENSITY.high


def test_each_assumption_widens_the_range_on_its_own_side():
    base = energy(10, watts=(4, 8), pue=(1.1, 1.5))
    assert energy(10, watts=(2, 8), pue=(1.1, 1.5)) == (base.low / 2, base.high)
    assert energy(10, watts=(4, 16), pue=(1.1, 1.5)) == (base.low, base.high * 2)
    assert energy(20, watts=(4, 8), pue=(1.1, 1.5)) == pytest.approx([2 * end for end in base])
    assert energy(0) == (0, 0) and PUE.low >= 1


def test_a_range_is_written_with_two_digits():
    assert str(Range(0.001234, 56.78)) == "0.0012 to 57"
    assert str(Range(713, 12_345)) == "710 to 12,000"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: energy(-1), "cpu_hours: expected a number, at least 0"),
        (lambda: energy(float("nan")), "cpu_hours: expected"),
        (lambda: energy(1, watts=(9, 3)), "watts: expected (low, high) with 0 <= low <= high"),
        (lambda: energy(1, pue=(0.9, 1.2)), "pue: expected (low, high) with 1 <= low <= high"),
        (lambda: emissions((2, 1)), "kwh: expected"),
        (lambda: emissions((1, 2), (0.1, float("inf"))), "intensity: expected"),
    ],
)
def test_refusals_are_one_line(call, told):
    with pytest.raises(ValueError) as refusal:
        call()
    assert told in str(refusal.value) and "\n" not in str(refusal.value)
