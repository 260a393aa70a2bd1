"""Chapter 04: sinusoids of the time, FiLM, self-attention, receptive fields, a larger picture."""

import torch
import torch.nn.functional as F

from course_lib.teaching.check import Choice, Code, with_gradients

# ---- 4.1 write: sinusoids of the time ----------------------------------------------------------


def waves(timestep, frequencies):
    angles = timestep[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def sinusoids(timestep, channels):
    half = channels // 2
    return waves(timestep, 10000.0 ** (-torch.arange(half) / half))


def sines_first(timestep, channels):
    """Your sines come before the cosines. That works just as well, but weights trained with one
    order are useless with the other: here the cosines come first."""
    return sinusoids(timestep, channels).roll(channels // 2, dims=1)


def cosines_and_sines_alternate(timestep, channels):
    """You let cosines and sines alternate. Here all cosines come first and then all sines:
    concatenate the two halves."""
    both = sinusoids(timestep, channels).chunk(2, dim=1)
    return torch.stack(both, dim=2).flatten(1)


def sines_and_cosines_alternate(timestep, channels):
    """You let sines and cosines alternate, sines first: that is how Vaswani et al. encode the
    position of a word. Here all cosines come first and then all sines: concatenate two halves."""
    cosines, sines = sinusoids(timestep, channels).chunk(2, dim=1)
    return torch.stack([sines, cosines], dim=2).flatten(1)


def frequencies_that_grow(timestep, channels):
    """Your frequencies run from 1 up to 10000. A step of 1 in time then turns the fastest wave more
    than a thousand times, and the values look random. The exponent needs a minus."""
    half = channels // 2
    return waves(timestep, 10000.0 ** (torch.arange(half) / half))


def exponent_over_all_channels(timestep, channels):
    """You divide the exponent by all channels. There are only half as many frequencies, so yours
    end at a hundredth and never reach the slow waves: divide by channels // 2."""
    half = channels // 2
    return waves(timestep, 10000.0 ** (-torch.arange(half) / channels))


def ladder_to_its_very_end(timestep, channels):
    """You divide the exponent by half - 1, so that the last frequency is exactly 1/10000. Ho et
    al.'s code does that and works as well; this course and Stable Diffusion divide by half."""
    half = channels // 2
    return waves(timestep, 10000.0 ** (-torch.arange(half) / (half - 1)))


def frequencies_evenly_spaced(timestep, channels):
    """Your frequencies are evenly spaced. Then nearly all of them are fast. Each should be the
    previous one times the same factor: the index belongs in the exponent."""
    half = channels // 2
    return waves(timestep, 1 - torch.arange(half) / half)


def time_between_0_and_1(timestep, channels):
    """You divide the timestep by 1000. The frequencies are made for timesteps from 0 to 1000:
    between 0 and 1, even the fastest wave makes only a sixth of a turn."""
    return sinusoids(timestep / 1000, channels)


def timesteps():
    return [(torch.tensor([2.0]), 4), (torch.tensor([0.0, 3.0, 250.0, 999.0]), 16)]


# ---- 4.2 write: FiLM ---------------------------------------------------------------------------


def everywhere(values):
    return values[:, :, None, None]  # (B, C) -> (B, C, 1, 1)


def film(h, gain, shift):
    return F.group_norm(h, 1) * (1 + everywhere(gain)) + everywhere(shift)


def modulated_before_the_norm(h, gain, shift):
    """You multiply and add first and normalise afterwards. The norm then removes what all
    channels have in common. Modulate after the norm, where nothing undoes it."""
    return F.group_norm(h * (1 + everywhere(gain)) + everywhere(shift), 1)


def gain_without_the_one(h, gain, shift):
    """You multiply by gain, not by 1 + gain. The layer that computes the gain starts at zero, so a
    new block would erase its input."""
    return F.group_norm(h, 1) * everywhere(gain) + everywhere(shift)


def gain_and_shift_swapped(h, gain, shift):
    """You exchanged gain and shift: multiply by 1 + gain, then add shift."""
    return film(h, shift, gain)


def each_channel_normalised_alone(h, gain, shift):
    """You normalise each channel by itself. With one group, mean and variance are taken over all
    channels and positions of a sample together: dims 1, 2 and 3."""
    return F.instance_norm(h) * (1 + everywhere(gain)) + everywhere(shift)


def normalised_over_the_batch(h, gain, shift):
    """You took mean and variance over the batch as well, so a picture's result would depend on its
    neighbours. Each sample is normalised alone."""
    var, mean = torch.var_mean(h, correction=0)
    return (h - mean) / (var + 1e-5).sqrt() * (1 + everywhere(gain)) + everywhere(shift)


def variance_over_one_less(h, gain, shift):
    """Your variance divides by the number of values minus one, torch's default. Norms divide by
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
    """The root is right now, but your softmax still runs over the queries (dim 1). Each query
    distributes its own attention over the keys, so each row must sum to 1: use dim 2."""
    return (q @ k.mT / q.shape[2] ** 0.5).softmax(dim=1) @ v


def root_of_the_number_of_positions(q, k, v):
    """The softmax is right now, but you divide by the root of N, the number of positions. What
    makes the scores grow is the number of products in each, the width d."""
    return (q @ k.mT / q.shape[1] ** 0.5).softmax(dim=2) @ v


def softmax_over_the_batch(q, k, v):
    """Your softmax runs over the batch (dim 0), so a picture's attention depends on the others in
    the batch. With a batch of one, every weight is 1."""
    return (q @ k.mT / q.shape[2] ** 0.5).softmax(dim=0) @ v


def not_scaled(q, k, v):
    """You don't scale the scores at all. Each is a sum of d products, so their spread grows like
    √d. In a wide layer the softmax then puts all its weight on one position and passes no
    gradient."""
    return (q @ k.mT).softmax(dim=2) @ v


def scaled_by_d_itself(q, k, v):
    """You divide by d; take its square root. The variance of the scores is d, so their standard
    deviation is √d."""
    return (q @ k.mT / q.shape[2]).softmax(dim=2) @ v


def keys_and_queries_exchanged(q, k, v):
    """Your scores are transposed: row n must belong to query n, so it is q that comes first."""
    return (k @ q.mT / q.shape[2] ** 0.5).softmax(dim=2) @ v


def three_positions():
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
    """You add kernel - 1 for each layer, whatever its stride. After a stride of 2, neighbouring
    values stand 2 pixels apart, so a kernel there reaches twice as far."""
    return 1 + sum(kernel - 1 for kernel, _ in layers)


def kernels_added(layers):
    """You add whole kernels. They overlap: the second 3 × 3 sees one more pixel on each side, not
    another 3 × 3 next to the first. Add kernel - 1."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        pixels += kernel * jump
        jump *= stride
    return pixels


def stride_counted_before_its_own_kernel(layers):
    """You multiply the jump before you use it. A layer's kernel reads the values that come in,
    which are not yet thinned out by its own stride."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        jump *= stride
        pixels += (kernel - 1) * jump
    return pixels


def strides_added_up(layers):
    """You add the strides. Two halvings leave a quarter, so strides multiply."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        pixels += (kernel - 1) * jump
        jump += stride - 1
    return pixels


def started_at_zero(layers):
    """You start at 0. With no layer at all, a value sees one pixel: itself."""
    return receptive_field(layers) - 1


def one_side_only(layers):
    """You count one side only. A kernel of 3 adds a pixel to the left *and* one to the right."""
    return 1 + (receptive_field(layers) - 1) // 2


def jump_is_the_last_stride(layers):
    """Your distance between neighbours is the last layer's stride alone. Strides multiply: after
    two halvings, neighbours stand 4 pixels apart."""
    pixels, jump = 1, 1
    for kernel, stride in layers:
        pixels += (kernel - 1) * jump
        jump = stride
    return pixels


def stacks():
    plain, halving = (3, 1), (3, 2)
    down = [plain, plain, halving, plain, plain, halving, plain, plain]
    return [([plain, plain],), ([plain, halving, plain],), (down,), ([(7, 2), (5, 1), (1, 4)],)]


def drawn_stacks():
    """Three stacks of five layers, with kernels of 1 to 7 and strides of 1 to 3."""
    return [([(k, 1 + k % 3) for k in torch.randint(1, 8, (5,)).tolist()],) for _ in range(3)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "4.1": Code(
        sinusoids,
        timesteps,
        "That is `layers.sinusoids`; only the two linear layers behind it are learned.",
        [
            sines_first,
            cosines_and_sines_alternate,
            sines_and_cosines_alternate,
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
        "With gain and shift at zero only the norm is left: a block that ignores the time so far.",
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
        run=with_gradients("y", h=0, gain=1, shift=2),
        tolerance=1e-3,
    ),
    "4.3": Code(
        attention,
        three_positions,
        "You fixed both: the axis whose weights sum to 1, and the root of the width.",
        [
            softmax_over_the_queries,
            root_of_the_number_of_positions,
            softmax_over_the_batch,
            not_scaled,
            scaled_by_d_itself,
            keys_and_queries_exchanged,
        ],
        given=planted_wrong_axis_and_wrong_root,
        run=with_gradients("y", q=0, k=1, v=2),
    ),
    "4.4": Code(
        receptive_field,
        stacks,
        "Each halving doubles what every later kernel adds. That is why U-Nets downsample.",
        [
            strides_forgotten,
            kernels_added,
            stride_counted_before_its_own_kernel,
            strides_added_up,
            started_at_zero,
            one_side_only,
            jump_is_the_last_stride,
        ],
        more=drawn_stacks,
    ),
    "4.5": Choice(
        "c",
        {
            "a": "Nothing in it is made for one size: kernels slide over any picture, and "
            "attention takes any number of positions. Only the sides must be divisible by 4.",
            "b": "A network has no notion of the whole picture, only of how large things are in "
            "pixels. Nothing tells it that this picture is larger, so it can't draw larger.",
            "c": "It learned what strokes look like within the region it sees at once. It draws "
            "such strokes everywhere, but they don't form a digit.",
            "d": "Something would have to keep the four quarters apart, but all kernels slide "
            "across the borders between them.",
        },
    ),
}
