"""The ring watermark without a network: identities of the spectrum, the key, and the p-value."""

import pytest
import torch
from scipy import stats

from course_lib.pipelines.watermark import (
    distance,
    from_spectrum,
    on_rings,
    p_value,
    ring_key,
    ring_watermark,
    spectrum,
)


def noise(count, *shape, seed=0):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [7, 8, 16])
def test_the_spectrum_is_invertible_and_keeps_the_energy(size):
    x = noise(3, 2, size, size)
    torch.testing.assert_close(from_spectrum(spectrum(x)), x)
    energy = spectrum(x).abs().square().sum((1, 2, 3))
    torch.testing.assert_close(energy, x.square().sum((1, 2, 3)))


def test_the_spectrum_of_a_real_picture_is_hermitian_on_the_rings():
    """F(-k) = conj F(k): with numpy's order, -k is at the index size - k."""
    coefficients, key = spectrum(noise(1, 1, 8, 8))[0, 0], ring_key((1, 8, 8), radius=3)
    for k in key.mask.nonzero().tolist():
        opposite = [(-i) % 8 for i in k]
        assert key.ring[tuple(k)] == key.ring[tuple(opposite)]
        torch.testing.assert_close(coefficients[tuple(opposite)], coefficients[tuple(k)].conj())


@pytest.mark.parametrize(("shape", "channels"), [((12, 8, 8), 4), ((1, 16, 16), 1)])
def test_the_key_is_read_exactly_and_only_where_it_is(shape, channels):
    key = ring_key(shape, radius=3, channels=channels, seed=5)
    before = noise(4, *shape)
    marked = ring_watermark(before, key)
    assert marked.dtype == before.dtype and not marked.is_complex()
    assert distance(marked, key).max() < 1e-5
    assert distance(before, key).min() > 0.5
    torch.testing.assert_close(marked[:, channels:], before[:, channels:])
    outside = ~key.mask
    torch.testing.assert_close(
        spectrum(marked)[..., outside], spectrum(before)[..., outside], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(ring_watermark(marked, key), marked, atol=1e-5, rtol=0)
    assert distance(marked, ring_key(shape, 3, channels, seed=6)).min() > 0.3  # another's key


@pytest.mark.parametrize("move", ["flip", "turn", "turn twice"])
def test_flips_and_quarter_turns_leave_the_key_where_it_was(move):
    key = ring_key((2, 8, 8), radius=3)
    marked = ring_watermark(noise(2, 2, 8, 8), key)
    turns = {"turn": 1, "turn twice": 2}
    moved = marked.flip(3) if move == "flip" else marked.rot90(turns[move], (2, 3))
    assert distance(moved, key).max() < 1e-5
    assert (moved - marked).abs().max() > 1  # the noise itself is another


def test_a_shift_hides_the_key():
    key = ring_key((2, 8, 8), radius=3)
    marked = ring_watermark(noise(2, 2, 8, 8), key)
    assert distance(marked.roll(2, dims=3), key).min() > 0.3


def test_what_the_mark_does_to_the_noise():
    """Over all keys it is white noise again; for one key the marked coefficients don't vary."""
    keys = [ring_key((1, 8, 8), radius=3, seed=seed) for seed in range(1000)]
    drawn = noise(len(keys), 1, 8, 8)
    marked = torch.cat([ring_watermark(x[None], k) for x, k in zip(drawn, keys, strict=True)])
    power = spectrum(marked).abs().square().mean(0)[0]
    # the mean of 1000 squares: a standard deviation of at most sqrt(2 / 1000) = 0.045
    torch.testing.assert_close(power, torch.ones(8, 8), atol=0.2, rtol=0)
    (key, *_) = keys
    coefficients = spectrum(ring_watermark(drawn, key))
    variance = (coefficients - coefficients.mean(0)).abs().square().mean(0)[0]
    assert variance[key.mask].max() < 1e-9 < 0.8 < variance[~key.mask].min()


def test_the_p_value_is_uniform_in_white_noise_and_tiny_with_the_mark():
    key = ring_key((4, 8, 8), radius=3)
    found = p_value(noise(2000, 4, 8, 8), key, variance=1.0)
    assert stats.kstest(found.numpy(), "uniform").pvalue > 0.01
    marked = ring_watermark(noise(20, 4, 8, 8), key)
    assert p_value(marked, key).max() < 1e-12
    blurred = marked + 1.5 * noise(20, 4, 8, 8, seed=1)  # it survives a lot of noise
    assert p_value(blurred, key).median() < 1e-4


def test_half_of_the_coefficients_are_free():
    """So the sum of squares has as many degrees of freedom as there are coefficients."""
    key = ring_key((1, 8, 8), radius=3)
    power = on_rings(noise(4000, 1, 8, 8), key).abs().square().sum((1, 2))
    freedom = key.coefficients.numel()
    assert power.mean().item() == pytest.approx(freedom, rel=0.02)
    assert power.var().item() == pytest.approx(2 * freedom, rel=0.1)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ring_key((4, 8, 8), radius=4), "radius: expected 0 to 3 at 8, got 4"),
        (lambda: ring_key((4, 8, 9), radius=2), "shape: expected square noise"),
        (lambda: ring_key((4, 8, 8), radius=2, channels=5), "channels: expected 1 to 4, got 5"),
        (lambda: ring_watermark(noise(1, 4, 16, 16), ring_key((4, 8, 8), 2)), "(B, 4 or more, 8"),
        (lambda: distance(noise(1, 2, 8, 8), ring_key((4, 8, 8), 2)), "(B, 4 or more, 8, 8)"),
        (lambda: p_value(noise(1, 4, 8, 8).half(), ring_key((4, 8, 8), 2)), "expected float32"),
    ],
)
def test_refusals_are_one_line(call, told):
    with pytest.raises(ValueError) as refusal:
        call()
    assert told in str(refusal.value) and "\n" not in str(refusal.value)
