"""Chapter 14: velocities of other paths, a loss by another name, reflow, long steps, patches."""

from itertools import pairwise

import torch
from torch import nn

from course_lib.models.layers import keeps_kwargs
from course_lib.teaching.check import Code, Number, with_gradients

# ---- 14.1 write: the velocity on a quarter circle ----------------------------------------------


def velocity(x, x0, t):
    angle = torch.pi / 2 * t
    return torch.pi / 2 * (angle.cos() * x - x0) / angle.sin()


def noise_at(x, x0, t):
    angle = torch.pi / 2 * t
    return (x - angle.cos() * x0) / angle.sin()


def inner_derivative_forgotten(x, x0, t):
    """The direction is right, but the angle grows by π/2 while t grows by 1. The chain rule
    multiplies the velocity by that."""
    angle = torch.pi / 2 * t
    return angle.cos() * noise_at(x, x0, t) - angle.sin() * x0


def towards_the_data(x, x0, t):
    """Your velocity points towards the data. Time runs from 0 (clean) to 1 (noise), and dx/dt
    points the same way."""
    return -velocity(x, x0, t)


def straight_path(x, x0, t):
    """That is the velocity on the straight path. Differentiate cos(πt/2) and sin(πt/2) instead."""
    return (x - x0) / t


def noise_minus_data(x, x0, t):
    """You found the noise in x, and then took noise minus data. That difference is the velocity of
    the straight path only."""
    return noise_at(x, x0, t) - x0


def sign_of_the_cosine(x, x0, t):
    """The derivative of the cosine is *minus* the sine: the signal shrinks."""
    angle = torch.pi / 2 * t
    return torch.pi / 2 * (angle.cos() * noise_at(x, x0, t) + angle.sin() * x0)


def x_taken_for_the_noise(x, x0, t):
    """You used x where the noise belongs. First solve x = cos(πt/2) x0 + sin(πt/2) ε for ε."""
    angle = torch.pi / 2 * t
    return torch.pi / 2 * (angle.cos() * x - angle.sin() * x0)


def points_on_the_circle():
    small = torch.tensor([[0.7, -1.2]]), torch.tensor([[1.5, 0.4]]), torch.tensor([[0.4]])
    return [small, (torch.randn(6, 3), torch.randn(6, 3), torch.rand(6, 1) * 0.8 + 0.15)]


# ---- 14.2 write: the flow's loss, by the error of x0 -------------------------------------------


def weight(alpha, sigma, d_alpha, d_sigma):
    return (d_alpha - alpha / sigma * d_sigma) ** 2


def noise_held_fixed(alpha, sigma, d_alpha, d_sigma):
    """You kept the noise fixed. But both networks see the same x_t, so an error in the estimate of
    x0 moves the estimate of the noise, too: ε̂ = (x_t − α x̂0) / σ."""
    return d_alpha**2


def weight_of_the_noise(alpha, sigma, d_alpha, d_sigma):
    """That is the weight of the error of the *noise*. Here the network predicts x0: write ε̂ with
    x̂0, and not the other way around."""
    return (d_sigma - sigma / alpha * d_alpha) ** 2


def not_squared(alpha, sigma, d_alpha, d_sigma):
    """That is the factor of the error itself, without its sign. The losses are squared errors."""
    return abs(d_alpha - alpha / sigma * d_sigma)


def plus_for_minus(alpha, sigma, d_alpha, d_sigma):
    """One sign is wrong: in ε̂ = (x_t − α x̂0) / σ, the estimate of x0 has a minus."""
    return (d_alpha + alpha / sigma * d_sigma) ** 2


def of_the_straight_path(alpha, sigma, d_alpha, d_sigma):
    """That is right for the straight path only. Any path is asked for."""
    return 1 / sigma**2


def other_way_around(alpha, sigma, d_alpha, d_sigma):
    """You divide where you should multiply: the weight turns the error of x0 into that of the
    velocity."""
    return 1 / (d_alpha - alpha / sigma * d_sigma) ** 2


def paths():
    drawn = torch.rand(5) + 0.3, torch.rand(5) + 0.3, -torch.rand(5) - 0.2, torch.rand(5) * 2 + 0.1
    return [(0.9, 0.5, -0.7, 1.6), drawn, (0.3, 1.7, 0.2, 0.6)]


# ---- 14.4 debug: a step of reflow --------------------------------------------------------------


def reflow_loss(student, teacher, noise, t, steps):
    x0 = noise
    with torch.no_grad():
        for n in range(steps):
            x0 = x0 - teacher(x0, 1 - n / steps) / steps
    xt = (1 - t) * x0 + t * noise
    return (student(xt, t) - (noise - x0)).square().mean()


def planted_fresh_noise(student, teacher, noise, t, steps):
    x0 = noise
    with torch.no_grad():
        for n in range(steps):
            x0 = x0 - teacher(x0, 1 - n / steps) / steps
    eps = torch.randn_like(x0)
    xt = (1 - t) * x0 + t * eps
    return (student(xt, t) - (eps - x0)).square().mean()


def ends(teacher, noise, steps):
    x0 = noise
    for n in range(steps):
        x0 = x0 - teacher(x0, 1 - n / steps) / steps
    return x0


def pair_only_in_the_target(student, teacher, noise, t, steps):
    """The target is now the pair's, but x_t is still mixed with fresh noise, so it doesn't lie on
    the line between the two."""
    x0 = ends(teacher, noise, steps).detach()
    xt = (1 - t) * x0 + t * torch.randn_like(x0)
    return (student(xt, t) - (noise - x0)).square().mean()


def pair_only_in_xt(student, teacher, noise, t, steps):
    """x_t now lies on the pair's line, but the target still has fresh noise in it, which the
    student can't see."""
    x0 = ends(teacher, noise, steps).detach()
    xt = (1 - t) * x0 + t * noise
    return (student(xt, t) - (torch.randn_like(x0) - x0)).square().mean()


def target_turned_around(student, teacher, noise, t, steps):
    """The pair is right, but your target points from the noise to the data. The velocity is dx/dt,
    and t grows towards the noise."""
    x0 = ends(teacher, noise, steps).detach()
    xt = (1 - t) * x0 + t * noise
    return (student(xt, t) - (x0 - noise)).square().mean()


def teacher_copied(student, teacher, noise, t, steps):
    """Your target is the teacher's velocity. It is that of the old, curved paths: the student would
    learn nothing new. The target is the straight line between the two ends of the pair."""
    x0 = ends(teacher, noise, steps).detach()
    xt = (1 - t) * x0 + t * noise
    return (student(xt, t) - teacher(xt, t).detach()).square().mean()


def teacher_trained_too(student, teacher, noise, t, steps):
    """The value is right, but a gradient reaches the teacher, so it would be trained along with the
    student. Keep its sampling under no_grad()."""
    x0 = ends(teacher, noise, steps)
    xt = (1 - t) * x0 + t * noise
    return (student(xt, t) - (noise - x0)).square().mean()


class SmallVelocity(nn.Module):
    """network(x, t): x (B, D), t (B, 1) or a number."""

    @keeps_kwargs
    def __init__(self, dim: int):
        super().__init__()
        self.layer = nn.Linear(dim + 1, dim)

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype).expand(len(x), 1)
        return torch.tanh(self.layer(torch.cat([x, t], dim=1))) + t**2


def students_and_teachers():
    noise, t = torch.tensor([[0.8, -1.1]]), torch.tensor([[0.3]])
    yield SmallVelocity(2), SmallVelocity(2), noise, t, 2
    yield SmallVelocity(3), SmallVelocity(3), torch.randn(6, 3), torch.rand(6, 1), 5


# ---- 14.5 write: one step for many -------------------------------------------------------------


def target(u, x, times):
    start = x
    with torch.no_grad():
        for k in range(len(times) - 1):
            x = x - (times[k] - times[k + 1]) * u(x, times[k], times[k + 1])
    return (start - x) / (times[0] - times[-1])


def walked(u, x, times, sign=1):
    """The points on the way, the first included, and the average velocity of each step."""
    points, velocities = [x], []
    for t, s in pairwise(times):
        velocities.append(u(points[-1], t, s))
        points.append(points[-1] - sign * (t - s) * velocities[-1])
    return points, velocities


def plain_mean(u, x, times):
    """You took the plain mean of the velocities. Longer steps count more: what adds up is length ·
    velocity."""
    return torch.stack(walked(u, x, times)[1]).mean(0).detach()


def never_moved(u, x, times):
    """Every step is asked for at the start. The second step starts where the first one ended."""
    lengths = times[:-1] - times[1:]
    each = [u(x, t, s) for t, s in pairwise(times)]
    return ((lengths * torch.stack(each)).sum(0) / lengths.sum(0)).detach()


def displacement(u, x, times):
    """That is how far x moves. The average velocity is that, divided by the whole time."""
    return (x - walked(u, x, times)[0][-1]).detach()


def moved_towards_the_noise(u, x, times):
    """You go the wrong way: from t to the cleaner s, x moves by *minus* (t − s) u."""
    return ((walked(u, x, times, -1)[0][-1] - x) / (times[0] - times[-1])).detach()


def instants(u, x, times):
    """You ask for steps of length 0. Tell u where each step ends."""
    return target(lambda x, t, s: u(x, t, t), x, times)


def gradient_through_the_target(u, x, times):
    """The value is right, but a gradient flows through it. It is a regression target: compute it
    under no_grad(), or the network is also pulled towards targets that are easy to reach."""
    return (x - walked(u, x, times)[0][-1]) / (times[0] - times[-1])


class SmallAverage(nn.Module):
    """u(x, t, s): x (B, D), times (B, 1)."""

    @keeps_kwargs
    def __init__(self, dim: int):
        super().__init__()
        self.layer = nn.Linear(dim + 2, dim)

    def forward(self, x, t, s):
        return torch.tanh(self.layer(torch.cat([x, t, s], dim=1))) + t * s


def walks():
    yield SmallAverage(2), torch.tensor([[0.6, -1.4]]), torch.tensor([[[0.9]], [[0.7]], [[0.1]]])
    falling = torch.rand(5, 4, 1).sort(0, descending=True).values
    yield SmallAverage(3), torch.randn(4, 3), falling


# ---- 14.6 write: patches of a wide picture -----------------------------------------------------


def unpatchify(tokens, patch_size, height):
    x = tokens.unflatten(1, (height // patch_size, -1))  # (B, h, w, p·p·C)
    x = x.unflatten(3, (patch_size, patch_size, -1))  # (B, h, w, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def cut(tokens, patch_size, height):
    return tokens.unflatten(1, (height // patch_size, -1))


def channels_first(tokens, patch_size, height):
    """You read each token channel by channel, as our `patchify` writes it. In these tokens the
    channel runs fastest: all channels of the first pixel, then all of the second."""
    x = cut(tokens, patch_size, height).unflatten(3, (-1, patch_size, patch_size))
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def patches_transposed(tokens, patch_size, height):
    """Each patch is in its place, but its rows and columns are exchanged."""
    x = cut(tokens, patch_size, height).unflatten(3, (patch_size, patch_size, -1))
    return x.permute(0, 5, 1, 4, 2, 3).flatten(4, 5).flatten(2, 3)


def column_by_column(tokens, patch_size, height):
    """You lay the patches out column by column. They come row by row."""
    x = tokens.unflatten(1, (-1, height // patch_size)).transpose(1, 2)
    x = x.unflatten(3, (patch_size, patch_size, -1))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def only_reshaped(tokens, patch_size, height):
    """The shape is right, but the numbers lie in another order: a reshape alone doesn't move
    anything. Split the axes, permute them, and then join them."""
    channels = tokens.shape[2] // patch_size**2
    return tokens.reshape(len(tokens), channels, height, -1)


def height_and_width_exchanged(tokens, patch_size, height):
    """You took the height for the width."""
    x = tokens.unflatten(1, (-1, height // patch_size))
    x = x.unflatten(3, (patch_size, patch_size, -1))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def pictures_in_tokens():
    yield torch.arange(8.0).view(1, 2, 4), 2, 2
    yield torch.randn(2, 6, 12), 2, 6  # three rows of two patches, three channels
    yield torch.randn(1, 10, 18), 3, 6  # two rows of five patches, two channels


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "14.1": Code(
        velocity,
        points_on_the_circle,
        "It is π/2 times chapter 02's v: predicting v is flow matching on the quarter circle.",
        [
            inner_derivative_forgotten,
            towards_the_data,
            straight_path,
            noise_minus_data,
            sign_of_the_cosine,
            x_taken_for_the_noise,
        ],
    ),
    "14.2": Code(
        weight,
        paths,
        "A prediction of x0, trained with this weight, minimises the flow's loss on any path.",
        [
            noise_held_fixed,
            weight_of_the_noise,
            not_squared,
            plus_for_minus,
            of_the_straight_path,
            other_way_around,
        ],
    ),
    "14.3": Number(
        -0.6745,
        "The order of the numbers stays, so the lowest quarter of the noise goes to the lower "
        "point. With independent pairs, that one step would take all noise to the mean, 2.",
        within=0.02,
        misconceptions={
            "the wrong tail": (
                0.6745,
                "A quarter of the noise lies *above* this number. The lower point takes the "
                "quarter below.",
            ),
            "the point half-way": (
                1.0,
                "That is half-way between the points, where the nearest one changes. But 84 % of "
                "the noise lies below 1, and only a quarter of the pairs may end at −1.",
            ),
            "the share": (
                0.25,
                "That is the share of the noise that goes to −1. At which number has a standard "
                "normal variable this share below it?",
            ),
        },
    ),
    "14.4": Code(
        reflow_loss,
        students_and_teachers,
        "The pair is the whole point: with fresh noise this is flow matching on the teacher's "
        "samples, and its paths are as curved as before.",
        [
            pair_only_in_the_target,
            pair_only_in_xt,
            target_turned_around,
            teacher_copied,
            teacher_trained_too,
        ],
        given=planted_fresh_noise,
        run=with_gradients("loss", student=0, teacher=1),
    ),
    "14.5": Code(
        target,
        walks,
        "Displacements add up, whatever the lengths of the steps.",
        [
            plain_mean,
            never_moved,
            displacement,
            moved_towards_the_noise,
            instants,
            gradient_through_the_target,
        ],
        run=with_gradients("target", u=0),
    ),
    "14.6": Code(
        unpatchify,
        pictures_in_tokens,
        "Only the number of tokens has changed: a transformer can draw wide pictures, too.",
        [
            channels_first,
            patches_transposed,
            column_by_column,
            only_reshaped,
            height_and_width_exchanged,
        ],
    ),
}
