"""Chapter 09: latent diffusion. Tiny networks stand in for the real ones, so checks are instant."""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.teaching.check import Choice, Code, with_gradients


class TinyNetwork(nn.Module):
    """A network with one weight and a U-Net's signature, that depends on all of its arguments."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, timestep, context):
        if timestep.shape != (len(x),):
            given = tuple(timestep.shape)
            raise ValueError(f"the network expects timesteps of shape ({len(x)},), got {given}")
        bias = context.flatten(1).mean(1) + 1e-3 * timestep  # (B,)
        return self.weight * x + bias.reshape(-1, *[1] * (x.ndim - 1))


# ---- 9.1 write: the loss -----------------------------------------------------------------------


def latent_loss(network, z0, context, t, eps):
    t = t.reshape(-1, 1, 1, 1)
    zt = (1 - t) * z0 + t * eps
    prediction = network(zt, 1000 * t.flatten(), context)
    return F.mse_loss(prediction, eps - z0)


def target_upside_down(network, z0, context, t, eps):
    """Your target is z0 - eps. The flow points from data to noise, the way t runs: eps - z0."""
    t = t.reshape(-1, 1, 1, 1)
    zt = (1 - t) * z0 + t * eps
    return F.mse_loss(network(zt, 1000 * t.flatten(), context), z0 - eps)


def coefficients_swapped(network, z0, context, t, eps):
    """Your z_t is noise at t = 0 and data at t = 1. Time 0 is clean: z0 has the weight 1 - t."""
    t = t.reshape(-1, 1, 1, 1)
    zt = t * z0 + (1 - t) * eps
    return F.mse_loss(network(zt, 1000 * t.flatten(), context), eps - z0)


def timestep_between_0_and_1(network, z0, context, t, eps):
    """You gave the network t in [0, 1]. Its timesteps run from 0 to 1000, as in published models:
    at t = 0.5 it expects 500. Otherwise all times look alike to it."""
    time = t.reshape(-1, 1, 1, 1)
    zt = (1 - time) * z0 + time * eps
    return F.mse_loss(network(zt, t, context), eps - z0)


def predicting_the_noise(network, z0, context, t, eps):
    """Your target is eps alone. That is DDPM's target; this network predicts the flow, eps - z0."""
    t = t.reshape(-1, 1, 1, 1)
    zt = (1 - t) * z0 + t * eps
    return F.mse_loss(network(zt, 1000 * t.flatten(), context), eps)


def sum_instead_of_mean(network, z0, context, t, eps):
    """You sum the squares. The mean keeps the loss, and so the learning rate, independent of the
    batch and of the latent's size."""
    t = t.reshape(-1, 1, 1, 1)
    zt = (1 - t) * z0 + t * eps
    return F.mse_loss(network(zt, 1000 * t.flatten(), context), eps - z0, reduction="sum")


def latent_not_faded(network, z0, context, t, eps):
    """Your z_t is z0 + t · eps: the data keeps its full strength. On the straight path its weight
    is 1 - t, so that nothing is left of it at t = 1."""
    time = t.reshape(-1, 1, 1, 1)
    return F.mse_loss(network(z0 + time * eps, 1000 * t, context), eps - z0)


def predicting_the_data(network, z0, context, t, eps):
    """Your target is z0. This network predicts the flow, the direction from data to noise:
    eps - z0."""
    time = t.reshape(-1, 1, 1, 1)
    return F.mse_loss(network((1 - time) * z0 + time * eps, 1000 * t, context), z0)


def predicting_v(network, z0, context, t, eps):
    """Your target is v, alpha · eps - sigma · z0. The flow has no weights: eps - z0, at every
    time."""
    time = t.reshape(-1, 1, 1, 1)
    zt, v = (1 - time) * z0 + time * eps, (1 - time) * eps - time * z0
    return F.mse_loss(network(zt, 1000 * t, context), v)


def shifted_times(network, z0, context, t, eps):
    """You used the chapter's shifted path, where the noise level is 2t / (1 + t). This exercise
    asks for the plain one: the noise level is t itself."""
    time = t.reshape(-1, 1, 1, 1)
    sigma = 2 * time / (1 + time)
    zt = (1 - sigma) * z0 + sigma * eps
    return F.mse_loss(network(zt, 1000 * t, context), eps - z0)


def cut_from_the_graph(network, z0, context, t, eps):
    """The value is right, but no gradient reaches the network: after float(), item(), detach() or
    no_grad() nothing can be learned from a loss. Return the tensor itself."""
    return latent_loss(network, z0, context, t, eps).detach()


def losses():
    one = torch.ones(1, 1, 1, 1)
    few = torch.randn(3, 2, 4, 4)
    return [
        (TinyNetwork(), one, torch.zeros(1, 2, 2), torch.tensor([0.25]), 2 * one),
        (TinyNetwork(), few, torch.randn(3, 5, 2), torch.rand(3), torch.randn(3, 2, 4, 4)),
    ]


# ---- 9.2 write: scaling the latents ------------------------------------------------------------


def scale_latents(z):
    std, mean = torch.std_mean(z, dim=(0, 2, 3), keepdim=True)
    return (z - mean) / std


def one_scale_for_all_channels(z):
    """You measured one mean and one standard deviation over all channels, as Stable Diffusion does
    (its 0.18215). Here the channels differ widely, so each needs its own: don't average over dim
    1."""
    return (z - z.mean()) / z.std()


def divided_by_the_variance(z):
    """You divided by the variance. Dividing by its square root, the standard deviation, is what
    makes the new variance 1."""
    variance, mean = torch.var_mean(z, dim=(0, 2, 3), keepdim=True)
    return (z - mean) / variance


def forgot_the_shift(z):
    """The spread is right, but the mean is not 0: subtract it first."""
    return z / z.std(dim=(0, 2, 3), keepdim=True)


def multiplied_by_the_spread(z):
    """You multiplied by the standard deviation, which makes wide channels wider: divide."""
    std, mean = torch.std_mean(z, dim=(0, 2, 3), keepdim=True)
    return (z - mean) * std


def each_picture_by_itself(z):
    """You measured mean and spread for each picture separately. That removes differences between
    pictures (how bright, how busy), and the decoder couldn't undo it. Average over dim 0 as
    well."""
    std, mean = torch.std_mean(z, dim=(2, 3), keepdim=True)
    return (z - mean) / std


def each_position_by_itself(z):
    """You averaged over the batch alone, so each position of the latent got its own scale. Use
    one scale for each channel: average over dims 0, 2 and 3."""
    std, mean = torch.std_mean(z, dim=0, keepdim=True)
    return (z - mean) / std


def variance_by_the_count(z):
    """This is right except for a convention: you divide by the count, torch's `std` by one less. On
    a whole dataset the difference is negligible."""
    std, mean = torch.std_mean(z, dim=(0, 2, 3), keepdim=True, correction=0)
    return (z - mean) / std


def std_and_mean_exchanged(z):
    """You exchanged mean and standard deviation: torch.std_mean returns the standard deviation
    first."""
    mean, std = torch.std_mean(z, dim=(0, 2, 3), keepdim=True)
    return (z - mean) / std


def each_sample_by_itself(z):
    """You measured one mean and spread for each sample, over all its channels. Measure them for
    each channel, over all samples: dims 0, 2 and 3."""
    std, mean = torch.std_mean(z, dim=(1, 2, 3), keepdim=True)
    return (z - mean) / std


def raw_latents():
    spread, centre = torch.tensor([0.5, 4.0, 12.0]), torch.tensor([3.0, -1.0, 0.0])
    small = torch.tensor([0.0, 2, 4, 9]).reshape(2, 1, 1, 2)
    wide = torch.randn(6, 3, 4, 4) * spread.reshape(-1, 1, 1) + centre.reshape(-1, 1, 1)
    return [(small,), (wide,)]


# ---- 9.3 debug: guidance -----------------------------------------------------------------------


def guided_prediction(network, z, timestep, context, null, scale):
    both = torch.cat([context, null])
    predictions = network(torch.cat([z, z]), torch.cat([timestep, timestep]), both)
    conditional, unconditional = predictions.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def planted_halves_exchanged(network, z, timestep, context, null, scale):
    both = torch.cat([context, null])
    predictions = network(torch.cat([z, z]), torch.cat([timestep, timestep]), both)
    unconditional, conditional = predictions.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def scale_off_by_one(network, z, timestep, context, null, scale):
    """You start from the conditional prediction, so scale = 0 already follows the caption. (The
    classifier-free guidance paper counts this way. This course, like most libraries, starts from
    the unconditional prediction, so that 1 means no guidance.)"""
    conditional = network(z, timestep, context)
    return conditional + scale * (conditional - network(z, timestep, null))


def pushed_away(network, z, timestep, context, null, scale):
    """The difference has the wrong sign: this leads away from the caption, as a negative prompt
    does."""
    conditional, unconditional = network(z, timestep, context), network(z, timestep, null)
    return unconditional + scale * (unconditional - conditional)


def only_the_caption(network, z, timestep, context, null, scale):
    """You return the conditional prediction, whatever the scale."""
    return network(z, timestep, context)


def only_the_difference(network, z, timestep, context, null, scale):
    """You return only the scaled difference. Add it to the unconditional prediction."""
    return scale * (network(z, timestep, context) - network(z, timestep, null))


def guidances():
    one = torch.ones(1, 1, 1, 1)
    few = torch.randn(3, 2, 2, 2), torch.tensor([400.0, 900.0, 50.0])
    contexts = torch.randn(3, 3, 2), torch.randn(3, 3, 2)
    return [
        (TinyNetwork(), one, torch.tensor([500.0]), torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 3.0),
        (TinyNetwork(), *few, *contexts, 1.0),
        (TinyNetwork(), *few, *contexts, 4.0),
    ]


# ---- 9.4 debug: image to image -----------------------------------------------------------------


def start_from(z0, eps, strength):
    return (1 - strength) * z0 + strength * eps, strength


def planted_full_picture(z0, eps, strength):
    return z0 + strength * eps, 1.0


def start_at_the_wrong_time(z0, eps, strength):
    """The latent is right now, but sampling would start at t = 1, as if all were noise, and the
    network would remove noise that isn't there. Start at t = strength."""
    return (1 - strength) * z0 + strength * eps, 1.0


def picture_not_faded(z0, eps, strength):
    """The time is right now, but at time t the picture has the weight 1 - t, not 1: the network
    never saw latents this strong."""
    return z0 + strength * eps, strength


def strength_backwards(z0, eps, strength):
    """Strength 1 should leave nothing of the picture, but yours keeps all of it."""
    return strength * z0 + (1 - strength) * eps, 1 - strength


def variance_preserving_weights(z0, eps, strength):
    """Those are the weights of DDPM's family, whose squares sum to 1. This model was trained on the
    straight path: 1 - t and t."""
    return (1 - strength**2) ** 0.5 * z0 + strength * eps, strength


def weights_exchanged(z0, eps, strength):
    """The time is right now, but you exchanged the weights: at time t the picture has weight 1 - t
    and the noise t."""
    return strength * z0 + (1 - strength) * eps, strength


def time_backwards(z0, eps, strength):
    """The latent is right now, but its time isn't 1 - strength. Time runs from 0, clean, to 1,
    noise: the noisier the latent, the later."""
    return (1 - strength) * z0 + strength * eps, 1 - strength


def starts():
    one = torch.ones(1)
    few = torch.randn(2, 2, 2, 2), torch.randn(2, 2, 2, 2)
    return [(one, 0 * one, 0.4), (0 * one, one, 0.25), (*few, 0.7)]


# ---- 9.5 write: attention maps -----------------------------------------------------------------


def word_map(weights, position):
    side = int(weights.shape[2] ** 0.5)
    heat = weights.mean(1)[:, :, position]
    return heat.reshape(-1, side, side)


def averaged_over_pixels(weights, position):
    """You averaged over the pixels (dim 2), so what is left says how much each head reads the word,
    not where. Average over the heads, dim 1."""
    side = int(weights.shape[2] ** 0.5)
    heat = weights.mean(2)[:, :, position].mean(1)
    return heat.reshape(-1, 1, 1).expand(-1, side, side)


def only_the_first_head(weights, position):
    """You used head 0 only. Heads specialise, so average over all of them."""
    side = int(weights.shape[2] ** 0.5)
    return weights[:, 0, :, position].reshape(-1, side, side)


def summed_over_heads(weights, position):
    """You summed over the heads, so the values are too large by that factor. Take the mean, which
    is a share of attention between 0 and 1."""
    side = int(weights.shape[2] ** 0.5)
    return weights.sum(1)[:, :, position].reshape(-1, side, side)


def rows_and_columns_exchanged(weights, position):
    """Your map is mirrored along the diagonal: pixels are numbered row by row, so reshape alone
    puts them in place."""
    return word_map(weights, position).transpose(1, 2)


def one_token_late(weights, position):
    """You read the next token's column. The start token already counts as position 0."""
    return word_map(weights, (position + 1) % weights.shape[3])


def softmax_once_more(weights, position):
    """The weights have been through the softmax already; a second one flattens them."""
    return word_map(weights.softmax(-1), position)


def weight_maps():
    hand_made = torch.tensor([0.1, 0.9, 0.4, 0.6, 0.3, 0.7, 0.8, 0.2]).reshape(1, 1, 4, 2)
    return [(hand_made, 0), (torch.randn(2, 4, 9, 5).softmax(-1), 3)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "9.1": Code(
        latent_loss,
        losses,
        "With pixels in place of the latent, this is the loss of chapter 02 on another path.",
        [
            target_upside_down,
            coefficients_swapped,
            timestep_between_0_and_1,
            predicting_the_noise,
            sum_instead_of_mean,
            latent_not_faded,
            predicting_the_data,
            predicting_v,
            shifted_times,
            cut_from_the_graph,
        ],
        run=with_gradients("loss", network=0),
    ),
    "9.2": Code(
        scale_latents,
        raw_latents,
        "Now noise of variance 1 hides every channel equally fast.",
        [
            one_scale_for_all_channels,
            divided_by_the_variance,
            forgot_the_shift,
            multiplied_by_the_spread,
            each_picture_by_itself,
            each_position_by_itself,
            variance_by_the_count,
            std_and_mean_exchanged,
            each_sample_by_itself,
        ],
    ),
    "9.3": Code(
        guided_prediction,
        guidances,
        "What goes in first comes out first: the order of the halves must be the same.",
        [scale_off_by_one, pushed_away, only_the_caption, only_the_difference],
        given=planted_halves_exchanged,
    ),
    "9.4": Code(
        start_from,
        starts,
        "You fixed both: the latent at time t, and the time that the sampler starts at.",
        [
            start_at_the_wrong_time,
            picture_not_faded,
            strength_backwards,
            variance_preserving_weights,
            weights_exchanged,
            time_backwards,
        ],
        given=planted_full_picture,
    ),
    "9.5": Code(
        word_map,
        weight_maps,
        "Each pixel's row sums to 1 over all tokens, so this is the word's share of it.",
        [
            averaged_over_pixels,
            only_the_first_head,
            summed_over_heads,
            rows_and_columns_exchanged,
            one_token_late,
            softmax_once_more,
        ],
    ),
    "9.6": Choice(
        "c",
        {
            "a": "The null caption is a caption like any other: it has tokens and a context, and "
            "one training example in ten carried it.",
            "b": "Guidance multiplies a difference. What are the two predictions when the caption "
            "itself is the empty one?",
            "c": "Both predictions are the same, so their difference is zero at every scale. You "
            "get a typical picture of the training set, the same one each time.",
            "d": "The network has learned what an empty caption stands for: anything at all. It "
            "draws some scene, not the average of all.",
        },
    ),
}
