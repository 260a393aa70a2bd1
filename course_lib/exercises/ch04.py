"""Chapter 04: waves of the time, FiLM, attention with heads, receptive fields, a whole U-Net."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.digits import digits
from course_lib.diffusion import Diffusion
from course_lib.models.layers import ResnetBlock, TimeEmbedding, conv, norm, zeroed
from course_lib.recipes.digits import diffusion_loss
from course_lib.teaching.by_hand import randomised
from course_lib.teaching.check import Choice, Code, Target, Unusable, with_gradients

# ---- 4.1 write: waves of the time, with wavelengths of one's own --------------------------------


def waves(timestep, wavelengths):
    angles = 2 * math.pi * timestep[:, None] / wavelengths
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def time_waves(timestep, channels, shortest, longest):
    half = channels // 2
    return waves(timestep, shortest * (longest / shortest) ** (torch.arange(half) / (half - 1)))


def sines_first(timestep, channels, shortest, longest):
    """Your sines come before the cosines. That works just as well, but weights trained with one
    order are useless with the other: here the cosines come first."""
    return time_waves(timestep, channels, shortest, longest).roll(channels // 2, dims=1)


def cosines_and_sines_alternate(timestep, channels, shortest, longest):
    """You let cosines and sines alternate. Here all cosines come first and then all sines:
    concatenate the two halves."""
    both = time_waves(timestep, channels, shortest, longest).chunk(2, dim=1)
    return torch.stack(both, dim=2).flatten(1)


def sines_and_cosines_alternate(timestep, channels, shortest, longest):
    """You let sines and cosines alternate, sines first: that is how Vaswani et al. encode the
    position of a word. Here all cosines come first and then all sines: concatenate two halves."""
    cosines, sines = time_waves(timestep, channels, shortest, longest).chunk(2, dim=1)
    return torch.stack([sines, cosines], dim=2).flatten(1)


def longest_first(timestep, channels, shortest, longest):
    """Your wavelengths run from the longest to the shortest. The first should be the shortest."""
    return time_waves(timestep, channels, longest, shortest)


def exponent_over_all_channels(timestep, channels, shortest, longest):
    """You divide the exponent by the number of channels. There are only half as many wavelengths,
    and the last one's exponent must be 1: divide by channels // 2 - 1."""
    half = channels // 2
    return waves(timestep, shortest * (longest / shortest) ** (torch.arange(half) / channels))


def longest_never_reached(timestep, channels, shortest, longest):
    """Your last wavelength falls one step short of the longest. With h wavelengths there are only
    h - 1 steps between them, so divide the exponent by h - 1. (Equation (4.3) divides by h.)"""
    half = channels // 2
    return waves(timestep, shortest * (longest / shortest) ** (torch.arange(half) / half))


def wavelengths_evenly_spaced(timestep, channels, shortest, longest):
    """Your wavelengths grow by equal steps. Then nearly all of them are long. Each should be the
    previous one times the same factor."""
    return waves(timestep, torch.linspace(shortest, longest, channels // 2))


def frequencies_evenly_spaced(timestep, channels, shortest, longest):
    """Your frequencies are evenly spaced. Then nearly all of the waves are fast. Each wavelength
    should be the previous one times the same factor."""
    return waves(timestep, 1 / torch.linspace(1 / shortest, 1 / longest, channels // 2))


def two_pi_forgotten(timestep, channels, shortest, longest):
    """You divide the timestep by the wavelength. A cosine turns once when its angle has grown by
    2π, so multiply by 2π."""
    return time_waves(timestep / (2 * math.pi), channels, shortest, longest)


def multiplied_by_the_wavelength(timestep, channels, shortest, longest):
    """You multiply the timestep by the wavelength. The longer the wave, the more slowly it turns:
    divide."""
    half = channels // 2
    wavelengths = shortest * (longest / shortest) ** (torch.arange(half) / (half - 1))
    return waves(timestep, 1 / wavelengths)


def started_at_one(timestep, channels, shortest, longest):
    """Your wavelengths start at 1 instead of at the shortest."""
    half = channels // 2
    return waves(timestep, float(longest) ** (torch.arange(half) / (half - 1)))


def timesteps():
    return [
        (torch.tensor([2.0]), 6, 5.0, 80.0),
        (torch.tensor([0.0, 3.0, 250.0, 999.0]), 16, 4.0, 3000.0),
    ]


def drawn_timesteps():
    return [(1000 * torch.rand(5), 12, 3.0, 500.0)]


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


# ---- 4.3 debug: self-attention with heads ------------------------------------------------------


def split(x, heads):
    return x.unflatten(2, (heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, heads, N, d)


def joined(x):
    return x.transpose(1, 2).flatten(2)  # (B, heads, N, d) -> (B, N, D)


def multi_head_attention(q, k, v, heads):
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    return joined((q @ k.mT / q.shape[3] ** 0.5).softmax(dim=3) @ v)


def planted_reshape_and_wrong_root(q, k, v, heads):
    B, N, D = q.shape
    q, k, v = (x.reshape(B, heads, N, D // heads) for x in (q, k, v))
    weights = (q @ k.mT / D**0.5).softmax(dim=3)  # (B, heads, N, N)
    return (weights @ v).reshape(B, N, D)


def cut_by_reshape(q, k, v, heads):
    """The size of the scores is right now, but `reshape` still gives a head all channels of some
    positions, in place of some channels of all positions. Cut the last dimension in two, then
    exchange the head's dimension with the position's."""
    B, N, D = q.shape
    q, k, v = (x.reshape(B, heads, N, D // heads) for x in (q, k, v))
    return ((q @ k.mT / q.shape[3] ** 0.5).softmax(dim=3) @ v).reshape(B, N, D)


def put_together_by_reshape(q, k, v, heads):
    """The heads are cut correctly, but put together by a plain `reshape`, which mixes positions:
    exchange heads and positions back before you join the last two dimensions."""
    B, N, D = q.shape
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    return ((q @ k.mT / q.shape[3] ** 0.5).softmax(dim=3) @ v).reshape(B, N, D)


def root_of_all_channels(q, k, v, heads):
    """The heads are right now, but you divide by the root of D. A head's score is a sum of only
    D / heads products, so its spread is the root of that."""
    D, q, k, v = q.shape[2], split(q, heads), split(k, heads), split(v, heads)
    return joined((q @ k.mT / D**0.5).softmax(dim=3) @ v)


def put_together_by_reshape_with_the_wrong_root(q, k, v, heads):
    """You cut the heads correctly. Two things are left: put them together the opposite way,
    exchanging heads and positions back first, and divide by the root of D / heads."""
    (B, N, D), (q, k, v) = q.shape, (split(x, heads) for x in (q, k, v))
    return ((q @ k.mT / D**0.5).softmax(dim=3) @ v).reshape(B, N, D)


def channels_dealt_in_turn(q, k, v, heads):
    """Your heads take every heads-th channel. A head should get neighbouring channels: cut the
    last dimension into (heads, d), in this order."""
    q, k, v = (x.unflatten(2, (-1, heads)).permute(0, 3, 1, 2) for x in (q, k, v))
    out = (q @ k.mT / q.shape[3] ** 0.5).softmax(dim=3) @ v  # (B, heads, N, d)
    return joined(out)


def one_head_only(q, k, v, heads):
    """You attend with all channels at once, which is one head. Cut the channels into heads."""
    return multi_head_attention(q, k, v, 1)


def softmax_over_the_queries(q, k, v, heads):
    """Your softmax runs over the queries (dim 2). Each query distributes its own attention over
    the keys, so each row must sum to 1: use dim 3."""
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    return joined((q @ k.mT / q.shape[3] ** 0.5).softmax(dim=2) @ v)


def softmax_over_the_heads(q, k, v, heads):
    """Your softmax runs over the heads (dim 1). Each head attends on its own, and each of its rows
    must sum to 1: use dim 3."""
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    return joined((q @ k.mT / q.shape[3] ** 0.5).softmax(dim=1) @ v)


def not_scaled(q, k, v, heads):
    """You don't scale the scores at all. Each is a sum of d products, so their spread grows like
    √d. In a wide head the softmax then puts all its weight on one position and passes no
    gradient."""
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    return joined((q @ k.mT).softmax(dim=3) @ v)


def scaled_by_d_itself(q, k, v, heads):
    """You divide by d; take its square root. The variance of the scores is d, so their standard
    deviation is √d."""
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    return joined((q @ k.mT / q.shape[3]).softmax(dim=3) @ v)


def keys_and_queries_exchanged(q, k, v, heads):
    """Your scores are transposed: row n must belong to query n, so it is q that comes first."""
    return multi_head_attention(k, q, v, heads)


def two_positions_and_two_heads():
    q = torch.tensor([[[1.0, 0.0, 2.0, 1.0], [0.0, 3.0, -1.0, 1.0]]])
    k = torch.tensor([[[2.0, 0.0, 0.0, 1.0], [0.0, 1.0, 2.0, -1.0]]])
    v = torch.tensor([[[1.0, 2.0, 5.0, 7.0], [10.0, 30.0, 60.0, 100.0]]])
    return [(q, k, v, 2), (*torch.randn(3, 2, 5, 12), 3)]


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


# ---- 4.6 capstone: a U-Net that contains itself ------------------------------------------------


class Level(nn.Module):
    def __init__(self, channels, depth, time_dim):
        super().__init__()
        self.before = ResnetBlock(channels, channels, time_dim)
        self.below = type(self)(2 * channels, depth - 1, time_dim) if depth > 0 else None
        if self.below:
            self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
            self.up = nn.Conv2d(2 * channels, channels, 3, padding=1)
            self.after = ResnetBlock(2 * channels, channels, time_dim)

    def forward(self, x, temb):
        skip = self.before(x, temb)
        if self.below is None:
            return skip
        h = self.below(self.down(skip), temb)
        h = self.up(F.interpolate(h, scale_factor=2.0))
        return self.after(torch.cat([h, skip], dim=1), temb)


CHANNELS, DEPTH, TIME_DIM = 16, 2, 64


def level_of(answer: Callable) -> nn.Module:
    """The reader's level; built first without memory, in case it contains itself endlessly."""
    with torch.device("meta"):
        answer(CHANNELS, DEPTH, TIME_DIM)
    return answer(CHANNELS, DEPTH, TIME_DIM)


class WholeUNet(nn.Module):
    """The reader's levels, with a time embedding, a first and a last convolution."""

    def __init__(self, level: nn.Module):
        super().__init__()
        self.time_embedding, self.level = TimeEmbedding(CHANNELS, TIME_DIM), level
        self.conv_in, self.norm = conv(1, CHANNELS), norm(CHANNELS)
        self.conv_out = zeroed(conv(CHANNELS, 1))

    def forward(self, x: Tensor, timestep: Tensor, context: None = None) -> Tensor:
        h = self.level(self.conv_in(x), self.time_embedding(timestep))
        return self.conv_out(F.silu(self.norm(h)))


STEPS = 250


def parameters_without_gradient(level: nn.Module) -> list[str]:
    x, temb = torch.randn(2, CHANNELS, 8, 8), torch.randn(2, TIME_DIM)
    randomised(level)(x, temb).square().sum().backward()
    return [name for name, p in level.named_parameters() if p.grad is None or not p.grad.any()]


def held_out_loss(answer: Callable) -> float:
    """After a short training on digits of 8 × 8 pixels."""
    network, process = WholeUNet(level_of(answer)), Diffusion("linear", "eps")
    images, held_out = (digits(8, split)[0] for split in ("train", "test"))
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, STEPS)
    for _ in range(STEPS):
        loss = process.loss(network, images[torch.randint(len(images), (64,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return diffusion_loss(process, network, held_out).value


def examined_and_trained(answer: Callable) -> float:
    level = level_of(answer)
    x, temb = torch.randn(2, CHANNELS, 8, 8), torch.randn(2, TIME_DIM)
    if (got := getattr(level(x, temb), "shape", None)) != x.shape:
        got = tuple(got) if got else got
        raise Unusable(f"the output: expected shape {tuple(x.shape)} as the input's, got {got}.")
    if names := parameters_without_gradient(level):
        raise Unusable(f"no gradient reaches {', '.join(names[:3])}. Does `forward` use it?")
    return held_out_loss(answer)


def never_ends(answer: Callable) -> bool:
    """Your level contains itself without an end. The level below has a depth of one less, and at
    depth 0 there is none."""
    try:
        with torch.device("meta"):
            answer(CHANNELS, DEPTH, TIME_DIM)
    except (RecursionError, RuntimeError) as error:  # too deep, or too many channels
        return "recursion" in str(error) or "overflow" in str(error)
    return False


def skip_not_used(answer: Callable) -> bool:
    """Your level doesn't use its skip: with the levels below silenced, its output no longer depends
    on its input. Concatenate what `before` made with what comes back from below."""
    level = randomised(level_of(answer))
    for lower in level.children():
        if isinstance(lower, answer):
            lower.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    temb = torch.randn(1, TIME_DIM)
    xs = torch.randn(2, 1, CHANNELS, 8, 8)
    one, other = (level(x, temb) for x in xs)
    return one.shape == xs[0].shape and torch.equal(one, other)


def time_not_used(answer: Callable) -> bool:
    """The output doesn't depend on the time: give `time_dim` to every block when you build it, and
    `temb` to every block and to the level below when you call it."""
    level, x = randomised(level_of(answer)), torch.randn(1, CHANNELS, 8, 8)
    one, other = (level(x, torch.randn(1, TIME_DIM)) for _ in range(2))
    return torch.equal(one, other)


def nothing_below(answer: Callable) -> bool:
    """Your level never goes down: what the levels below compute doesn't change its output."""
    level = randomised(level_of(answer))
    x, temb = torch.randn(1, CHANNELS, 8, 8), torch.randn(1, TIME_DIM)
    before, lower = level(x, temb), [m for m in level.children() if isinstance(m, answer)]
    for module in lower:
        randomised(module)
    return bool(lower) and torch.equal(before, level(x, temb))


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "4.1": Code(
        time_waves,
        timesteps,
        "With 2π and 2π · 10000^((h-1)/h) as the ends, it is equation (4.3).",
        [
            sines_first,
            cosines_and_sines_alternate,
            sines_and_cosines_alternate,
            longest_first,
            exponent_over_all_channels,
            longest_never_reached,
            wavelengths_evenly_spaced,
            frequencies_evenly_spaced,
            two_pi_forgotten,
            multiplied_by_the_wavelength,
            started_at_one,
        ],
        tolerance=1e-3,
        more=drawn_timesteps,
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
        multi_head_attention,
        two_positions_and_two_heads,
        "You fixed both: a head gets some channels of all positions, and the root of its width.",
        [
            cut_by_reshape,
            put_together_by_reshape,
            root_of_all_channels,
            put_together_by_reshape_with_the_wrong_root,
            channels_dealt_in_turn,
            one_head_only,
            softmax_over_the_queries,
            softmax_over_the_heads,
            not_scaled,
            scaled_by_d_itself,
            keys_and_queries_exchanged,
        ],
        given=planted_reshape_and_wrong_root,
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
    "4.6": Target(
        Level,
        examined_and_trained,
        bound=0.115,  # seeds 0 to 4: 0.1065, 0.1078, 0.1083, 0.1071, 0.1077; added skips: 0.1109
        meaning="the loss on held-out digits is",
        well_done="Ten lines of `forward`, and no list of skips: a U-Net is a U-Net in a U-Net.",
        misconceptions=[never_ends, skip_not_used, time_not_used, nothing_below],
    ),
}
