"""Chapter 04: sinusoids of the time, FiLM, self-attention, receptive fields, a larger picture."""

import torch
import torch.nn.functional as F

from course_lib.teaching.check import Choice, Code

# ---- 4.1 write: sinusoids of the time ----------------------------------------------------------


def waves(timestep, frequencies):
    angles = timestep[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def sinusoids(timestep, channels):
    half = channels // 2
    return waves(timestep, 10000.0 ** (-torch.arange(half) / half))


def sines_first(timestep, channels):
    """Your sines come before the cosines. Nothing is lost by that, but weights that were trained
    with one order are useless with the other: here the cosines come first."""
    return sinusoids(timestep, channels).roll(channels // 2, dims=1)


def cosines_and_sines_alternate(timestep, channels):
    """You let cosines and sines alternate, as Vaswani et al. do with words. Here all cosines come
    first and then all sines: concatenate the two halves."""
    both = sinusoids(timestep, channels).chunk(2, dim=1)
    return torch.stack(both, dim=2).flatten(1)


def frequencies_that_grow(timestep, channels):
    """Your frequencies run from 1 up to 10000. A step of 1 in time then turns the fastest wave more
    than a thousand times, and what arrives looks like chance. The exponent needs a minus."""
    half = channels // 2
    return waves(timestep, 10000.0 ** (torch.arange(half) / half))


def exponent_over_all_channels(timestep, channels):
    """You divide the exponent by all channels. There are only half as many frequencies, so yours
    end at a hundredth and never reach the slow waves: divide by channels // 2."""
    half = channels // 2
    return waves(timestep, 10000.0 ** (-torch.arange(half) / channels))


def ladder_to_its_very_end(timestep, channels):
    """You divide the exponent by half - 1, so that the last frequency is exactly 1/10000. Ho et
    al.'s code does so, and it works as well; the course and Stable Diffusion divide by half."""
    half = channels // 2
    return waves(timestep, 10000.0 ** (-torch.arange(half) / (half - 1)))


def frequencies_evenly_spaced(timestep, channels):
    """Your frequencies are evenly spaced. Then nearly all of them are fast. Each should be the one
    before it times the same factor: the index belongs in the exponent."""
    half = channels // 2
    return waves(timestep, 1 - torch.arange(half) / half)


def time_between_0_and_1(timestep, channels):
    """You divide the timestep by 1000. The frequencies are made for steps from 0 to 1000: of a time
    between 0 and 1 even the fastest wave shows a sixth of a turn."""
    return sinusoids(timestep / 1000, channels)


def timesteps():
    return [(torch.tensor([2.0]), 4), (torch.tensor([0.0, 3.0, 250.0, 999.0]), 16)]


# ---- 4.2 write: FiLM ---------------------------------------------------------------------------


def everywhere(values):
    return values[:, :, None, None]  # (B, C) -> (B, C, 1, 1)


def film(h, gain, shift):
    return F.group_norm(h, 1) * (1 + everywhere(gain)) + everywhere(shift)


def modulated_before_the_norm(h, gain, shift):
    """You multiply and add first and normalise afterwards. The norm then takes back what all
    channels have in common. FiLM comes after the norm, where nothing takes it away."""
    return F.group_norm(h * (1 + everywhere(gain)) + everywhere(shift), 1)


def gain_without_the_one(h, gain, shift):
    """You multiply by gain, not by 1 + gain. The layer that makes the gain starts at zero, so a new
    block would erase everything that comes in."""
    return F.group_norm(h, 1) * everywhere(gain) + everywhere(shift)


def gain_and_shift_swapped(h, gain, shift):
    """You multiply with the shift and add the gain."""
    return film(h, shift, gain)


def each_channel_normalised_alone(h, gain, shift):
    """You normalise each channel by itself. With one group, mean and variance are taken over all
    channels and places of a sample together: dims 1, 2 and 3."""
    return F.instance_norm(h) * (1 + everywhere(gain)) + everywhere(shift)


def normalised_over_the_batch(h, gain, shift):
    """You took mean and variance over the batch as well, so a picture's result would depend on its
    neighbours. Each sample is normalised alone."""
    var, mean = torch.var_mean(h, correction=0)
    return (h - mean) / (var + 1e-5).sqrt() * (1 + everywhere(gain)) + everywhere(shift)


def variance_over_one_less(h, gain, shift):
    """Your variance divides by one less than the number of values, torch's default. Norms divide by
    the number itself: correction=0."""
    var, mean = torch.var_mean(h, (1, 2, 3), keepdim=True)
    return (h - mean) / (var + 1e-5).sqrt() * (1 + everywhere(gain)) + everywhere(shift)


def shift_multiplied_too(h, gain, shift):
    """You add the shift before you multiply, so the gain stretches it too."""
    return (F.group_norm(h, 1) + everywhere(shift)) * (1 + everywhere(gain))


def norm_forgotten(h, gain, shift):
    """You multiply and add, but you never normalise h."""
    return h * (1 + everywhere(gain)) + everywhere(shift)


def feature_maps():
    small = torch.tensor([[1.0, 3.0], [0.0, 8.0]]).view(1, 2, 1, 2)
    return [
        (small, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]])),
        (2 * torch.randn(3, 4, 5, 5) + 1, torch.randn(3, 4), torch.randn(3, 4)),
    ]


# ---- 4.3 debug: self-attention -----------------------------------------------------------------


def attention(q, k, v):
    scores = q @ k.mT / q.shape[2] ** 0.5
    return scores.softmax(dim=2) @ v


def planted_wrong_axis_and_wrong_root(q, k, v):
    scores = q @ k.mT / q.shape[1] ** 0.5
    return scores.softmax(dim=1) @ v


def softmax_over_the_queries(q, k, v):
    """The root is mended, but your softmax still runs over the queries (dim 1): it shares each key
    among those who ask. Each query must share its own attention among the keys: rows sum to 1."""
    return (q @ k.mT / q.shape[2] ** 0.5).softmax(dim=1) @ v


def root_of_the_number_of_places(q, k, v):
    """The softmax is mended, but you divide by the root of N, the number of places. What makes the
    scores grow is the number of products in each, which is the width d."""
    return (q @ k.mT / q.shape[1] ** 0.5).softmax(dim=2) @ v


def softmax_over_the_batch(q, k, v):
    """Your softmax runs over the batch (dim 0), so a picture's attention depends on the others in
    the batch. With a batch of one, every weight is 1."""
    return (q @ k.mT / q.shape[2] ** 0.5).softmax(dim=0) @ v


def not_scaled(q, k, v):
    """You do not scale the scores at all. With d products in each, they spread by the root of d,
    and the softmax of a wide layer gives all to one place and passes no gradient."""
    return (q @ k.mT).softmax(dim=2) @ v


def scaled_by_d_itself(q, k, v):
    """You divide by d; its square root is wanted. The variance of the scores is d, their standard
    deviation the root of d."""
    return (q @ k.mT / q.shape[2]).softmax(dim=2) @ v


def keys_ask_and_queries_answer(q, k, v):
    """Your scores are transposed: row n must belong to query n, so it is q that comes first."""
    return (k @ q.mT / q.shape[2] ** 0.5).softmax(dim=2) @ v


def three_places():
    q = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    k = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    v = torch.tensor([[[1.0], [10.0], [100.0]]])
    return [(q, k, v), (torch.randn(2, 6, 9), torch.randn(2, 6, 9), torch.randn(2, 6, 5))]


# ---- 4.4 write: receptive fields ---------------------------------------------------------------


def receptive_field(layers):
    pixels, jump = 1, 1
    for kernel, stride in layers:
        pixels += (kernel - 1) * jump
        jump *= stride
    return pixels


def strides_forgotten(layers):
    """You add kernel - 1 for each layer, whatever its stride. Behind a stride of 2, neighbouring
    numbers stand 2 pixels apart, so a kernel there reaches twice as far."""
    return 1 + sum(kernel - 1 for kernel, _ in layers)


def kernels_added(layers):
    """You add whole kernels. They overlap: the second 3 × 3 sees one pixel more at each side, not a
    second 3 × 3 beside the first. Add kernel - 1."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        pixels += kernel * jump
        jump *= stride
    return pixels


def stride_counted_before_its_own_kernel(layers):
    """You multiply the jump before you use it. A layer's kernel reaches over the numbers that come
    *in*, which are not yet thinned out by its own stride."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        jump *= stride
        pixels += (kernel - 1) * jump
    return pixels


def strides_added_up(layers):
    """You add the strides up. Two halvings leave a quarter: jumps multiply."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        pixels += (kernel - 1) * jump
        jump += stride - 1
    return pixels


def begun_at_zero(layers):
    """You begin at 0. With no layer at all a number sees one pixel: itself."""
    return receptive_field(layers) - 1


def one_side_only(layers):
    """You count one side only. A kernel of 3 adds a pixel to the left *and* one to the right."""
    return 1 + (receptive_field(layers) - 1) // 2


def stacks():
    plain, halving = (3, 1), (3, 2)
    down = [plain, plain, halving, plain, plain, halving, plain, plain]
    return [([plain, plain],), ([plain, halving, plain],), (down,), ([(7, 2), (5, 1), (1, 4)],)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "4.1": Code(
        sinusoids,
        timesteps,
        "That is `layers.sinusoids`; only the two linear layers behind it are learned.",
        [
            sines_first,
            cosines_and_sines_alternate,
            frequencies_that_grow,
            exponent_over_all_channels,
            ladder_to_its_very_end,
            frequencies_evenly_spaced,
            time_between_0_and_1,
        ],
    ),
    "4.2": Code(
        film,
        feature_maps,
        "With gain and shift at zero it is the norm alone: a block that knows no time yet.",
        [
            modulated_before_the_norm,
            gain_without_the_one,
            gain_and_shift_swapped,
            each_channel_normalised_alone,
            normalised_over_the_batch,
            variance_over_one_less,
            shift_multiplied_too,
            norm_forgotten,
        ],
        tolerance=1e-3,
    ),
    "4.3": Code(
        attention,
        three_places,
        "Both had to be mended: the axis that sums to 1, and the root of the width.",
        [
            softmax_over_the_queries,
            root_of_the_number_of_places,
            softmax_over_the_batch,
            not_scaled,
            scaled_by_d_itself,
            keys_ask_and_queries_answer,
        ],
        given=planted_wrong_axis_and_wrong_root,
    ),
    "4.4": Code(
        receptive_field,
        stacks,
        "Each halving doubles what every later kernel adds. That is what the ladder is for.",
        [
            strides_forgotten,
            kernels_added,
            stride_counted_before_its_own_kernel,
            strides_added_up,
            begun_at_zero,
            one_side_only,
        ],
    ),
    "4.5": Choice(
        "c",
        {
            "a": "Nothing in it is made for one size: kernels slide over any picture, and "
            "attention takes any number of places. Only the sides must be divisible by 4.",
            "b": "A network has no notion of the whole picture, only of how large things are in "
            "pixels. Nothing tells it that this picture is larger, so it can't draw larger.",
            "c": "It learned what strokes look like within the pixels that it sees at once. It "
            "draws such strokes wherever there is room, and no digit comes together.",
            "d": "For that something would have to keep four places apart. All kernels slide over "
            "the borders between them.",
        },
    ),
}
