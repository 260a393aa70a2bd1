"""Chapter 13: Stable Diffusion, counted and opened. Everything is numbers, names and times."""

import re

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
    and a bias for each channel: 8c in all."""
    return transformer_parameters(c, d) - 8 * c


def weights_without_biases(c, d):
    """You counted matrices and norms, and no bias. Both linear layers at the ends, both `to_out`
    and both layers of the feed-forward network have one."""
    return transformer_parameters(c, d) - (2 * c + 2 * c + 9 * c)


def ends_forgotten(c, d):
    """You are 2(c² + c) short: either the first and last linear layers are missing, or the `to_out`
    of both attentions."""
    return transformer_parameters(c, d) - 2 * (c * c + c)


def one_end_forgotten(c, d):
    """You counted only one of the two outer linear layers, the first and the last."""
    return transformer_parameters(c, d) - (c * c + c)


def cross_attention_forgotten(c, d):
    """You left out the cross-attention: 2c² + 2cd + c."""
    return transformer_parameters(c, d) - (2 * c * c + 2 * c * d + c)


def self_attention_forgotten(c, d):
    """You left out the self-attention: 4c² + c."""
    return transformer_parameters(c, d) - (4 * c * c + c)


def feed_forward_forgotten(c, d):
    """You left out the feed-forward network: its two matrices alone have 12c² weights."""
    return transformer_parameters(c, d) - (12 * c * c + 9 * c)


def feed_forward_biases_forgotten(c, d):
    """You left out the biases of the feed-forward network: 8c and c."""
    return transformer_parameters(c, d) - 9 * c


def one_norm_or_both_output_biases_forgotten(c, d):
    """You are 2c short. Either one of the four normalisations is missing (one at the start, and one
    before each of the block's three parts), or the biases of both `to_out` layers."""
    return transformer_parameters(c, d) - 2 * c


def norms_without_a_bias(c, d):
    """A normalisation has a weight and a bias for each channel: 2c, not c."""
    return transformer_parameters(c, d) - 4 * c


def values_forgotten(c, d):
    """You counted the keys of the cross-attention but not its values: c · d more."""
    return transformer_parameters(c, d) - c * d


def sizes():
    return [(1, 1), (2, 3), (320, 768), (1280, 768), (1280, 2048)]


def drawn_sizes():
    return [tuple(pair) for pair in torch.randint(4, 2000, (4, 2)).tolist()]


# ---- 13.2 write: the first checkpoint's names --------------------------------------------------


def their_name(name):
    number, part, rest = re.match(r"input_blocks\.(\d+)\.(\d)\.(.*)", name).groups()
    stage, block = divmod(int(number) - 1, 3)
    if block == 2:
        return f"down_blocks.{stage}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    kind = ("resnets", "attentions")[int(part)]
    return f"down_blocks.{stage}.{kind}.{block}.{rest}"


def counted_from_zero(name):
    """You divide the number itself by 3. Entry 0 is the first convolution, so block 1 is the first
    of the first stage: subtract 1 before you divide."""
    number, part, rest = re.match(r"input_blocks\.(\d+)\.(\d)\.(.*)", name).groups()
    return their_name(f"input_blocks.{int(number) + 1}.{part}.{rest}")


def two_entries_for_a_stage(name):
    """You count two entries for each stage. There are three: two blocks and the layer that halves
    the size."""
    number, part, rest = re.match(r"input_blocks\.(\d+)\.(\d)\.(.*)", name).groups()
    stage, block = divmod(int(number) - 1, 2)
    return f"down_blocks.{stage}.{('resnets', 'attentions')[int(part)]}.{block}.{rest}"


def downsamplers_forgotten(name):
    """Blocks are right. The third entry of each stage isn't a block, though: it halves the size,
    `down_blocks.0.downsamplers.0.conv.`"""
    number, part, rest = re.match(r"input_blocks\.(\d+)\.(\d)\.(.*)", name).groups()
    stage, block = divmod(int(number) - 1, 3)
    return f"down_blocks.{stage}.{('resnets', 'attentions')[int(part)]}.{block}.{rest}"


def all_parts_are_resnets(name):
    """You call every part a residual block. The second number says which it is: 0 for the residual
    block, 1 for the transformer, `attentions`."""
    return their_name(name).replace("attentions", "resnets")


def stage_and_block_exchanged(name):
    """You exchanged your two numbers: the stage comes first, then the block within it."""
    pattern = r"(down_blocks)\.(\d+)\.(resnets|attentions)\.(\d+)"
    return re.sub(pattern, r"\1.\4.\3.\2", their_name(name))


def samplers_without_a_number(name):
    """`downsamplers` is a list of one layer in diffusers, so its names go on with `.0.`, as in
    `down_blocks.0.downsamplers.0.conv.weight`."""
    return their_name(name).replace("samplers.0.", "samplers.")


def operation_not_renamed(name):
    """All but the last step: the layer that halves the size is called `op` in the first checkpoint
    and `conv` in diffusers."""
    return their_name(name).replace("samplers.0.conv.", "samplers.0.op.")


def names_of_the_first_checkpoint():
    return [
        ("input_blocks.1.0.in_layers.0.weight",),
        ("input_blocks.4.1.proj_in.bias",),
        ("input_blocks.8.0.out_layers.3.weight",),
        ("input_blocks.3.0.op.weight",),
        ("input_blocks.9.0.op.bias",),
        ("input_blocks.11.0.emb_layers.1.weight",),
        ("input_blocks.2.1.norm.weight",),
    ]


def drawn_names():
    """Four entries of any kind."""
    numbers = [int(torch.randint(1, 12, ())) for _ in range(4)]
    parts = [f"{n}.0.op.bias" if n % 3 == 0 else f"{n}.{n % 2}.norm.weight" for n in numbers]
    return [(f"input_blocks.{part}",) for part in parts]


# ---- 13.3 debug: the entries of image to image -------------------------------------------------


def entries_after_noising(steps, strength):
    entries = [1 + k * (1000 // steps) for k in reversed(range(steps))]
    return entries[steps - int(steps * strength) :]


def planted_strength_left_out(steps, strength):
    entries = [1 + k * (1000 / steps) for k in reversed(range(steps))]
    return entries[int(steps * strength) :]


def all_entries(steps):
    return [1 + k * (1000 // steps) for k in reversed(range(steps))]


def strength_still_left_out(steps, strength):
    """The stride is right now. But you drop the share `strength` of the entries and keep the rest:
    a larger strength must mean more steps, not fewer."""
    return all_entries(steps)[int(steps * strength) :]


def stride_still_not_whole(steps, strength):
    """You keep the right number of entries. But the stride must be a whole number: 1000 // steps,
    rounded down once, or the entries aren't indices of the table."""
    entries = [1 + k * (1000 / steps) for k in reversed(range(steps))]
    return entries[steps - int(steps * strength) :]


def noisiest_part(steps, strength):
    """You keep the noisiest entries. A picture that is noised only partly starts in the middle and
    goes to the end: keep the last entries."""
    return all_entries(steps)[: int(steps * strength)]


def minus_zero(steps, strength):
    """You wrote entries[-n:]. That works unless n is 0: entries[-0:] is the whole list. Count from
    the front: entries[steps - n:]."""
    return all_entries(steps)[-int(steps * strength) :]


def entries_below_a_time(steps, strength):
    """You keep the entries up to 1000 · strength. Stable Diffusion counts steps instead: the last
    int(steps · strength) of the list."""
    return [entry for entry in all_entries(steps) if entry <= 1000 * strength]


def rounded_to_the_nearest(steps, strength):
    """You round the number of steps to the nearest whole number. Stable Diffusion rounds down:
    int(steps · strength)."""
    return all_entries(steps)[steps - int(steps * strength + 0.5) :]


def offset_forgotten(steps, strength):
    """All your entries are one too low: Stable Diffusion's scheduler adds an offset of one."""
    return [entry - 1 for entry in entries_after_noising(steps, strength)]


def rising(steps, strength):
    """The right entries in the wrong order: sampling goes from noise to clean, so the largest entry
    comes first."""
    return entries_after_noising(steps, strength)[::-1]


def steps_and_strengths():
    return [(4, 0.75), (50, 0.8), (30, 0.5), (30, 0.33), (20, 1.0), (13, 0.5), (10, 0.05)]


def drawn_steps():
    pairs = zip(torch.randint(5, 60, (4,)).tolist(), torch.rand(4).tolist(), strict=True)
    return [(steps, round(strength, 2)) for steps, strength in pairs]


# ---- 13.4 write: one number for all batches ----------------------------------------------------


def one_scale(batches):
    count = sum(z.numel() for z in batches)
    mean = sum(z.sum() for z in batches) / count
    variance = sum((z - mean).square().sum() for z in batches) / count
    return 1 / variance.sqrt()


def mean_of_the_scales(batches):
    """You averaged the batches' scales. Neither scales nor standard deviations can be averaged:
    average squares, and take the root once, at the end."""
    return sum(one_scale([z]) for z in batches) / len(batches)


def each_batch_about_its_own_mean(batches):
    """You measured each batch about its own mean. Differences between the batches' means belong to
    the variance, too: use the mean of all numbers."""
    count = sum(z.numel() for z in batches)
    variance = sum((z - z.mean()).square().sum() for z in batches) / count
    return 1 / variance.sqrt()


def all_batches_count_alike(batches):
    """You averaged the batches' means and variances, so a number in a small batch counts more than
    one in a large batch. Divide sums over everything by the count of everything."""
    mean = sum(z.mean() for z in batches) / len(batches)
    variance = sum((z - mean).square().mean() for z in batches) / len(batches)
    return 1 / variance.sqrt()


def one_for_each_channel(batches):
    """You computed one scale for each channel, as this course's autoencoders do. Stable Diffusion
    has a single number: average over all dimensions at once."""
    z = torch.cat(list(batches))
    return 1 / (z - z.mean((0, 2, 3), keepdim=True)).square().mean((0, 2, 3)).sqrt()


def variance_over_one_less(batches):
    """Your variance divides by the count minus one, torch's default. Divide by the count itself:
    correction=0."""
    return 1 / torch.cat(list(batches)).std()


def spread_about_zero(batches):
    """You measured the mean square, about 0. A variance is measured about the mean: subtract the
    mean of all numbers first."""
    return 1 / torch.cat(list(batches)).square().mean().sqrt()


def divided_by_the_variance(batches):
    """You inverted the variance. Invert its square root: with 1/variance, latents of spread 5.49
    would end with a spread of 0.18 instead of 1."""
    return one_scale(batches) ** 2


def the_spread_itself(batches):
    """You return the standard deviation. Latents are multiplied by the scale, so return its
    inverse."""
    return 1 / one_scale(batches)


def batches_of_latents():
    spread, centre = torch.tensor([2.0, 4.0, 6.0, 8.0]), torch.tensor([1.0, -2.0, 0.0, 3.0])
    wide = [
        torch.randn(size, 4, 3, 3) * spread.view(-1, 1, 1) + centre.view(-1, 1, 1) + size
        for size in (5, 2, 1)
    ]
    small = torch.tensor([0.0, 4, 6, 14]).reshape(1, 2, 1, 2)
    return [([small],), ([small, 2 * small.repeat(2, 1, 1, 1)],), (wide,)]


# ---- 13.5 predict: a wider context -------------------------------------------------------------

WIDTHS = 5 * (320 + 640 + 1280) + 1280  # the widths of all sixteen transformers, added up
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
            one_end_forgotten,
            cross_attention_forgotten,
            self_attention_forgotten,
            feed_forward_forgotten,
            feed_forward_biases_forgotten,
            one_norm_or_both_output_biases_forgotten,
            norms_without_a_bias,
            values_forgotten,
        ],
        tolerance=1e-9,
        more=drawn_sizes,
    ),
    "13.2": Code(
        their_name,
        names_of_the_first_checkpoint,
        "diffusers ships a script of this kind: it is how the first checkpoint found its way "
        "there.",
        [
            counted_from_zero,
            two_entries_for_a_stage,
            downsamplers_forgotten,
            all_parts_are_resnets,
            stage_and_block_exchanged,
            samplers_without_a_number,
            operation_not_renamed,
        ],
        more=drawn_names,
    ),
    "13.3": Code(
        entries_after_noising,
        steps_and_strengths,
        "50 steps at strength 0.8 call the U-Net 40 times, and start at entry 781.",
        [
            strength_still_left_out,
            stride_still_not_whole,
            noisiest_part,
            minus_zero,
            entries_below_a_time,
            rounded_to_the_nearest,
            offset_forgotten,
            rising,
        ],
        given=planted_strength_left_out,
        more=drawn_steps,
    ),
    "13.4": Code(
        one_scale,
        batches_of_latents,
        "Measured on Stable Diffusion's latents, this is 0.18215.",
        [
            mean_of_the_scales,
            each_batch_about_its_own_mean,
            all_batches_count_alike,
            one_for_each_channel,
            variance_over_one_less,
            spread_about_zero,
            divided_by_the_variance,
            the_spread_itself,
        ],
    ),
    "13.5": Number(
        2 * WIDER * WIDTHS / 1e6,
        "Keys and values of sixteen transformers read the context: 2 · 256 · 12,480.",
        within=0.01,
        misconceptions={
            "counted_one_by_one": (
                2 * WIDER * WIDTHS,
                "That is the right number of parameters. Give it in millions.",
            ),
            "keys_alone": (
                WIDER * WIDTHS / 1e6,
                "Keys and values both read the context, so it is twice that.",
            ),
            "the_middle_forgotten": (
                2 * WIDER * (WIDTHS - 1280) / 1e6,
                "There is one more transformer, of width 1280, in the middle.",
            ),
            "as_many_blocks_up_as_down": (
                2 * WIDER * (4 * (320 + 640 + 1280) + 1280) / 1e6,
                "There are two blocks at each stage on the way down, and three on the way up.",
            ),
            "keys_alone_counted_one_by_one": (
                WIDER * WIDTHS,
                "Keys and values both read the context, so it is twice that; give it in millions.",
            ),
            "queries_too": (
                3 * WIDER * WIDTHS / 1e6,
                "Queries come from the picture, whatever the context's width: only keys and values "
                "grow.",
            ),
            "all_parameters_grow": (
                859.520964 * WIDER / 768,
                "Only the keys and values of cross-attention read the context.",
            ),
        },
    ),
}
