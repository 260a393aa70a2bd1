"""Chapter 13: Stable Diffusion, counted and opened. Everything is numbers, names and times."""

import torch

from course_lib.teaching.check import Code, Number

# ---- 13.1 write: the parameters of a transformer -----------------------------------------------


def transformer_parameters(c, d):
    norms = 2 * c + 3 * 2 * c
    ends = 2 * (c * c + c)
    itself = 4 * c * c + c
    cross = 2 * c * c + 2 * c * d + c
    feed_forward = (c * 8 * c + 8 * c) + (4 * c * c + c)
    return norms + ends + itself + cross + feed_forward


def only_one_half_expanded(c, d):
    """Your feed-forward network expands c to 4c. Half of what it expands to is the gate of the
    other half, so the first layer leads from c to 8c, and the second from 4c back."""
    return transformer_parameters(c, d) - 4 * c * c - 4 * c


def keys_read_the_picture(c, d):
    """Your cross-attention makes its keys and values from c channels. They come from the context,
    whose vectors have d numbers: c · d weights each."""
    return transformer_parameters(c, d) - 2 * c * d + 2 * c * c


def biases_in_every_projection(c, d):
    """You gave queries, keys and values a bias. In the U-Net they have none; of each attention's
    four layers only the last, `to_out`, has one."""
    return transformer_parameters(c, d) + 6 * c


def norms_forgotten(c, d):
    """You left the normalisations out: one of the whole and three of the block, each with a weight
    and a bias a channel, 8c in all."""
    return transformer_parameters(c, d) - 8 * c


def weights_without_biases(c, d):
    """You counted matrices and norms, and no bias. Both linear layers at the ends, both `to_out`
    and both layers of the feed-forward network have one."""
    return transformer_parameters(c, d) - (2 * c + 2 * c + 9 * c)


def ends_forgotten(c, d):
    """You counted the block alone. Around it stand `proj_in` and `proj_out`, linear layers from c
    to c with a bias."""
    return transformer_parameters(c, d) - 2 * (c * c + c)


def sizes():
    return [(1, 1), (2, 3), (320, 768), (1280, 768), (1280, 2048)]


# ---- 13.2 write: their names -------------------------------------------------------------------


def their_place(name):
    side, block, kind, layer = name.split(".")
    layer = 2 if kind == "downsamplers" else int(layer)
    part = 1 if kind == "attentions" else 0
    if side == "down_blocks":  # entry 0 is the first convolution
        return f"input_blocks.{1 + 3 * int(block) + layer}.{part}"
    return f"output_blocks.{3 * int(block) + layer}.{part}"


def shifted(name, down=0, up=0):
    """The place with its entry moved, on the way down or up."""
    side, entry, part = their_place(name).split(".")
    return f"{side}.{int(entry) + (down if side == 'input_blocks' else up)}.{part}"


def first_convolution_forgotten(name):
    """On the way down your entries are one too low. Entry 0 of `input_blocks` is `conv_in`, so the
    first residual block is entry 1."""
    return shifted(name, down=-1)


def downsamplers_not_counted(name):
    """On the way down you count two entries for each resolution. The layer that halves the size is
    a third one."""
    return shifted(name, down=-int(name.split(".")[1]))


def two_on_the_way_up(name):
    """On the way up you count two entries for each resolution. There are three residual blocks, one
    more than on the way down."""
    return shifted(name, up=-int(name.split(".")[1]))


def the_way_up_from_1(name):
    """On the way up your entries are one too high. The first convolution is listed on the way down
    only: `output_blocks` begins with a residual block, as entry 0."""
    return shifted(name, up=1)


def attention_in_its_block(name):
    """Your attention layers have the place of their residual blocks. Within an entry the residual
    block is part 0, and the attention that follows it is part 1."""
    return their_place(name)[:-1] + "0"


def downsampler_in_the_first_entry(name):
    """The layer that halves the size comes after both residual blocks of its resolution; you put it
    into the first one's entry. Its own number, 0, counts `downsamplers`."""
    return shifted(name, down=-2 if "downsamplers" in name else 0)


def our_names():
    return [
        ("down_blocks.1.resnets.0",),
        ("down_blocks.2.attentions.1",),
        ("down_blocks.0.downsamplers.0",),
        ("down_blocks.1.downsamplers.0",),
        ("up_blocks.3.resnets.2",),
        ("up_blocks.1.attentions.0",),
    ]


# ---- 13.3 debug: the times ---------------------------------------------------------------------


def leading_entries(steps):
    stride = 1000 // steps
    return [1 + k * stride for k in reversed(range(steps))]


def planted_ends_at_zero(steps):
    stride = 1000 / steps
    return [round(k * stride) for k in reversed(range(steps))]


def offset_forgotten(steps):
    """All entries are one too low. That is what DDIM's own code would take; Stable Diffusion's
    scheduler adds an offset of one (`steps_offset` = 1 in its configuration)."""
    return [entry - 1 for entry in leading_entries(steps)]


def counted_from_the_far_end(steps):
    """Yours begin at the table's last entry, 999. That is "trailing", the better choice (Lin et al.
    2024); Stable Diffusion samples "leading": multiples of the stride from 0, plus one."""
    return [round(1000 - k * 1000 / steps) - 1 for k in range(steps)]


def stride_not_whole(steps):
    """The offset is right. The stride is not: it is rounded down once, 1000 // steps, and then
    multiplied; you round each product, which differs where steps does not divide 1000."""
    return [1 + round(k * 1000 / steps) for k in reversed(range(steps))]


def rising(steps):
    """The right entries in the wrong direction: sampling goes from noise to clean, so from the
    largest entry down."""
    return leading_entries(steps)[::-1]


def evenly_to_the_end(steps):
    """Yours go from 1 to 999 in equal steps, both ends included. That is "linspace"."""
    return [round(x) for x in torch.linspace(999, 1, steps).tolist()]


def step_counts():
    return [(2,), (4,), (20,), (30,), (50,)]


# ---- 13.4 write: one number for all channels ---------------------------------------------------


def one_scale(z):
    return 1 / (z - z.mean()).square().mean().sqrt()


def one_for_each_channel(z):
    """You found one scale for each channel. That is what this course's autoencoders do; Stable
    Diffusion has a single number: average over all dimensions at once."""
    return 1 / (z - z.mean((0, 2, 3), keepdim=True)).square().mean((0, 2, 3)).sqrt()


def variance_over_one_less(z):
    """Your variance divides by one less than the count, torch's default. Here it is divided by the
    count: correction=0."""
    return 1 / z.std()


def spread_about_zero(z):
    """You measured the mean square, about 0. The paper's variance is about the mean: subtract the
    mean of all numbers first."""
    return 1 / z.square().mean().sqrt()


def mean_of_the_channels_spreads(z):
    """You averaged the channels' standard deviations. Variances can be averaged, standard
    deviations can't, and the channels' different means count as spread too here."""
    return 1 / z.var((0, 2, 3), correction=0).sqrt().mean()


def divided_by_the_variance(z):
    """You inverted the variance. Its square root is what a latent is divided by: with 1/variance,
    latents of spread 5.49 would leave with a spread of 0.18 instead of 1."""
    return 1 / (z - z.mean()).square().mean()


def the_spread_itself(z):
    """That is the standard deviation. `encode` multiplies by the scale, so it is the inverse."""
    return (z - z.mean()).square().mean().sqrt()


def wide_latents():
    spread, centre = torch.tensor([2.0, 4.0, 6.0, 8.0]), torch.tensor([1.0, -2.0, 0.0, 3.0])
    wide = torch.randn(5, 4, 6, 6) * spread.view(-1, 1, 1) + centre.view(-1, 1, 1)
    small = torch.tensor([0.0, 4, 6, 14]).reshape(1, 2, 1, 2)
    return [(small,), (wide,)]


# ---- 13.5 predict: a wider context -------------------------------------------------------------

HEARD = 5 * (320 + 640 + 1280) + 1280  # the widths of all sixteen transformers, added up
WIDER = 1024 - 768

# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "13.1": Code(
        transformer_parameters,
        sizes,
        "In all 20 c² + 2 c d + 21 c. The feed-forward network alone is 12 c² of it.",
        [
            only_one_half_expanded,
            keys_read_the_picture,
            biases_in_every_projection,
            norms_forgotten,
            weights_without_biases,
            ends_forgotten,
        ],
        tolerance=1e-9,
    ),
    "13.2": Code(
        their_place,
        our_names,
        "With places and a few words for the layers within, all 686 names are theirs.",
        [
            first_convolution_forgotten,
            downsamplers_not_counted,
            two_on_the_way_up,
            the_way_up_from_1,
            attention_in_its_block,
            downsampler_in_the_first_entry,
        ],
    ),
    "13.3": Code(
        leading_entries,
        step_counts,
        "A whole stride, and one entry later. For 20 steps that is 951, 901, ... 1.",
        [
            offset_forgotten,
            counted_from_the_far_end,
            stride_not_whole,
            rising,
            evenly_to_the_end,
        ],
        given=planted_ends_at_zero,
    ),
    "13.4": Code(
        one_scale,
        wide_latents,
        "Measured on Stable Diffusion's latents, this is 0.18215.",
        [
            one_for_each_channel,
            variance_over_one_less,
            spread_about_zero,
            mean_of_the_channels_spreads,
            divided_by_the_variance,
            the_spread_itself,
        ],
    ),
    "13.5": Number(
        2 * WIDER * HEARD / 1e6,
        "Keys and values of sixteen transformers read the context: 2 · 256 · 12,480.",
        within=0.01,
        misconceptions={
            "keys_alone": (
                WIDER * HEARD / 1e6,
                "Keys and values both read the context, so it is twice that.",
            ),
            "the_middle_forgotten": (
                2 * WIDER * (HEARD - 1280) / 1e6,
                "There is one more transformer, of width 1280, in the middle.",
            ),
            "as_many_blocks_up_as_down": (
                2 * WIDER * (4 * (320 + 640 + 1280) + 1280) / 1e6,
                "There are two blocks at each stage on the way down, and three on the way up.",
            ),
            "queries_too": (
                3 * WIDER * HEARD / 1e6,
                "Queries come from the picture, whatever the context's width: only keys and values "
                "grow.",
            ),
            "all_parameters_grow": (
                859.520964 * WIDER / 768,
                "Nothing but the keys and values of cross-attention ever meets the context.",
            ),
        },
    ),
}
