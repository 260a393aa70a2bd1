"""Small trainings with one mistake each: what each changes, and that the sound ones are sound."""

import inspect

import pytest
import torch

from course_lib.diffusion import points
from course_lib.diffusion.samplers import ancestral
from course_lib.teaching.broken_runs import (
    CASES,
    MISTAKES,
    SOUND,
    SoundRun,
    decode,
    encode,
    make,
    pictures,
)
from course_lib.teaching.broken_runs.mistakes import noise_to_the_end


@pytest.mark.parametrize("data, shape", [("digits", (1541, 1, 8, 8)), ("emoji", (1288, 3, 8, 8))])
def test_the_pictures_fill_the_range_and_have_a_label_each(data, shape):
    images, labels = pictures(data)
    assert images.shape == shape and labels.shape == shape[:1]
    assert images.min() >= -1 and images.max() <= 1 and images.max() > 0.9
    assert len(labels.unique()) == labels.max() + 1


def test_the_latents_decode_to_the_pictures_and_keep_distances():
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    z = encode(images)
    assert z.shape == (4, 12, 4, 4)
    torch.testing.assert_close(decode(z), images)
    torch.testing.assert_close((z[0] - z[1]).norm() * 2, (images[0] - images[1]).norm())
    half = images[:, :, ::2, ::2] / 2 + images[:, :, 1::2, 1::2] / 2
    half = half / 2 + (images[:, :, ::2, 1::2] + images[:, :, 1::2, ::2]) / 4
    torch.testing.assert_close(z[:, ::4], 1 + half)  # twice the brightness in [0, 1]


def test_a_sound_runs_latents_are_standardised():
    run = SOUND["sound, latents"]()
    assert run.x0.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(run.x0.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    assert (run.as_pictures(run.x0) - pictures("digits")[0]).abs().max() < 1e-5


@pytest.mark.parametrize("name", MISTAKES)
def test_the_wrong_line_is_marked(name):
    """In the class itself, or in the sampler's step, which stands above it."""
    case = MISTAKES[name]
    source = inspect.getsource(case)
    step = vars(case).get("sampler")
    source += inspect.getsource(step.__func__) if step else ""
    assert source.count("# the mistake") == 1


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_changes_few_parts(name):
    changed = {key for key in vars(MISTAKES[name]) if not key.startswith("__")}
    assert changed and len(changed) <= 2


def test_the_same_seed_gives_the_same_training_and_samples():
    first, second = (trained(make("sound", "digits", seed=1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, trained(make("sound", "digits", seed=2)))


def trained(case):
    case.steps = 2
    run = case.train()
    for _ in run:
        pass
    return case.samples(run.ema, count=3)


def test_noise_at_the_end_is_the_posteriors_before_the_end():
    """The mistake's sampler is the right one, except for its last step."""

    def predict(x, t):
        return x / 2, x / 3

    x, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    t, s, end = points(SoundRun.process.schedule, [0.4, 0.2, 0.0])
    step = noise_to_the_end
    right = ancestral(predict, x, t, s, [], lambda: noise)
    torch.testing.assert_close(step(predict, x, t, s, [], lambda: noise), right)
    last = ancestral(predict, x, s, end, [], lambda: noise)
    torch.testing.assert_close(step(predict, x, s, end, [], lambda: noise), last + s.sigma * noise)


def test_an_unknown_case_is_refused():
    with pytest.raises(ValueError, match="did you mean 'wrong variance'"):
        make("wrong varianse")
    with pytest.raises(ValueError, match="unknown data"):
        make("sound", "faces")
    assert make("sound").__class__ is SoundRun and set(CASES) == set(MISTAKES) | set(SOUND)
