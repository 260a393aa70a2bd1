"""Masked diffusion on alphabets so small that every sequence and every mask can be listed."""

import itertools
import math

import pytest
import torch

from course_lib.diffusion import MaskedDiffusion, guided

V, L = 3, 3
SEQUENCES = torch.cartesian_prod(*[torch.arange(V)] * L)  # (27, 3)
STATES = torch.cartesian_prod(*[torch.arange(V + 1)] * L)  # (64, 3): with masks
PROCESS = MaskedDiffusion(V)


def index(ids):
    """Where a sequence stands in STATES."""
    return (ids * torch.tensor([(V + 1) ** 2, V + 1, 1])).sum(-1)


@pytest.fixture(scope="module")
def p():
    """A distribution over all sequences without any symmetry."""
    weights = torch.rand(len(SEQUENCES), generator=torch.Generator().manual_seed(0)).double()
    return weights**3 / (weights**3).sum()


def perfect(p):
    """The network whose logits are log p(x_i | what is visible), by enumeration."""
    fits = ((STATES[:, None] == SEQUENCES) | (STATES[:, None] == V)).all(2)  # (64, 27)
    shares = fits * p
    shares = shares / shares.sum(1, keepdim=True)
    table = torch.stack([(shares @ (v == SEQUENCES).double()) for v in range(V)], 2)  # (64, L, V)
    return lambda ids, timestep=None, context=None: table[index(ids)].log()


def flawed(p):
    """A network that is wrong, in another way for each state."""
    noise = torch.randn(len(STATES), L, V, generator=torch.Generator().manual_seed(1)).double()
    return lambda ids, timestep=None, context=None: perfect(p)(ids) + 0.5 * noise[index(ids)]


def chain(network, steps):
    """p(x0) of every sequence under so many steps of the sampler, by summing over all paths."""
    before, after = STATES[:, None], STATES[None]  # from every state to every other one
    predicted = network(STATES).softmax(2)  # (64, L, V)
    drawn = predicted.gather(2, after.expand(64, -1, -1).mT.clamp(max=V - 1)).mT  # (64, 64, L)
    now = torch.zeros(len(STATES)).double()
    now[index(torch.full((L,), V))] = 1
    for n in range(steps, 0, -1):
        lift = 1 / n  # (t - s) / t, at t = n / steps
        masked = torch.where(after == V, 1 - lift, lift * drawn)
        now = now @ torch.where(before == V, masked, before == after).prod(2)
    return now[index(SEQUENCES)]


def cross_entropies(network):
    """The sum behind each set of masks, for every sequence: {masks: (27,)}."""
    found = {}
    for hidden in itertools.product((False, True), repeat=L):
        where = torch.tensor(hidden)
        logits = network(torch.where(where, V, SEQUENCES)).log_softmax(2)
        nats = -logits.gather(2, SEQUENCES[..., None])[..., 0]
        found[hidden] = torch.where(where, nats, 0.0).sum(1)
    return found


def bound(network, steps):
    """The bound with so many steps, in nats for each sequence, by summing over all masks."""
    total = torch.zeros(len(SEQUENCES)).double()
    for hidden, nats in cross_entropies(network).items():
        masks, times = sum(hidden), torch.arange(1, steps + 1) / steps
        chances = times.double() ** masks * (1 - times.double()) ** (L - masks)
        total += (chances / torch.arange(1, steps + 1)).sum() * nats  # (t - s) / t = 1 / n
    return total


def limit(network):
    """The bound with infinitely many steps: the integral over t of t^(n-1) (1-t)^(L-n), solved."""
    weights = {n: 1 / (n * math.comb(L, n)) for n in range(1, L + 1)} | {0: 0.0}
    return sum(weights[sum(hidden)] * nats for hidden, nats in cross_entropies(network).items())


def test_noising_masks_each_token_whose_draw_lies_below_t():
    """Equation 15a.1; each sample may have its own time."""
    x0, draws = torch.tensor([[0, 1, 2], [2, 1, 0]]), torch.tensor([[0.1, 0.5, 0.9]] * 2)
    xt = PROCESS.add_noise(x0, torch.tensor([0.3, 0.95]), draws)
    assert xt.tolist() == [[V, 1, 2], [V, V, V]]
    assert torch.equal(PROCESS.add_noise(x0, 0.5, draws)[:, 1], x0[:, 1])  # 0.5 isn't below 0.5
    spread = torch.linspace(0, 1, 1001)[:-1].expand(1, -1)
    masked = PROCESS.add_noise(torch.zeros(1, 1000).long(), 0.37, spread) == V
    assert masked.float().mean().item() == pytest.approx(0.37, abs=1e-3)


@pytest.mark.parametrize(("t", "s"), [(0.8, 0.3), (0.5, 0.4), (0.9, 0.0)])
def test_the_way_back_is_bayes_rule(t, s):
    """Equation 15a.2, from the joint probabilities of one token at s and at t."""
    still = (1 - t) / (1 - s)  # what is visible at s is so at t with this probability
    visible_then_masked, masked_both = (1 - s) * (1 - still), s * 1.0
    by_bayes = visible_then_masked / (visible_then_masked + masked_both)
    assert by_bayes == pytest.approx((t - s) / t)
    x, logits = torch.full((200, 50), V), torch.zeros(200, 50, V).double()
    lifted = PROCESS.step(x, logits, t, s, torch.Generator().manual_seed(0)) != V
    error = (by_bayes * (1 - by_bayes) / x.numel()) ** 0.5
    assert lifted.double().mean().item() == pytest.approx(by_bayes, abs=4 * error + 1e-9)


def test_a_step_keeps_what_is_visible_and_draws_what_the_network_says():
    x = torch.tensor([[0, V, V, 1]]).repeat(20_000, 1)
    p = torch.tensor([[0.1, 0.2, 0.7], [1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 1.0]])
    out = PROCESS.step(
        x, p.log().expand(len(x), -1, -1), 1.0, 0.0, torch.Generator().manual_seed(0)
    )
    assert (out[:, 0] == 0).all() and (out[:, 3] == 1).all()
    assert (out[:, 1] == 0).all()
    torch.testing.assert_close(torch.bincount(out[:, 2]) / len(x), p[2, :2], atol=0.015, rtol=0)


def test_one_steps_divergence_is_the_weighted_cross_entropy():
    """Equation 15a.3: KL(q || p) of a masked token, from its V + 1 probabilities."""
    t, s, x0 = 0.7, 0.45, 1
    p = torch.tensor([0.2, 0.5, 0.3]).double()
    lift = (t - s) / t
    q = torch.tensor([0, lift, 0, 1 - lift]).double()
    model = torch.cat([lift * p, torch.tensor([1 - lift]).double()])
    kl = torch.special.xlogy(q, q / model.clamp(min=1e-300)).sum()
    assert kl.item() == pytest.approx(-lift * p[x0].log().item())


@pytest.mark.parametrize("make", [perfect, flawed])
def test_the_bound_bounds_the_chain_and_falls_to_its_limit(p, make):
    """Equations 15a.4 and 15a.5, exactly: every mask, every path, every sequence."""
    network = make(p)
    previous = torch.full((len(SEQUENCES),), torch.inf).double()
    for steps in (1, 2, 4, 16):
        nll, above = -chain(network, steps).log(), bound(network, steps)
        assert torch.all(above >= nll - 1e-12)
        assert (p * above).sum() < (p * previous).sum()
        previous = above
    torch.testing.assert_close(bound(network, 4000), limit(network), atol=5e-3, rtol=0)


def test_with_a_perfect_network_the_limit_is_the_likelihood_itself(p):
    """The chain rule in every order: nothing is lost, for any sequence."""
    torch.testing.assert_close(limit(perfect(p)), -p.log(), atol=1e-9, rtol=0)
    gap = (p * (limit(flawed(p)) + p.log())).sum()
    assert gap > 0.05  # and a flawed one pays


def test_in_one_step_the_tokens_are_independent(p):
    marginals = torch.stack([(p[:, None] * (v == SEQUENCES)).sum(0) for v in range(V)], 1)  # (L, V)
    product = marginals[torch.arange(L), SEQUENCES].prod(1)
    torch.testing.assert_close(chain(perfect(p), 1), product)
    torch.testing.assert_close(bound(perfect(p), 1), -product.log())


@pytest.mark.parametrize("make", [perfect, flawed])
def test_the_librarys_estimate_is_unbiased(p, make):
    network, generator = make(p), torch.Generator().manual_seed(0)
    count = 4000
    x0 = SEQUENCES.repeat_interleave(count, 0)
    t = 1 - torch.rand(len(x0), generator=generator).double()
    draws = torch.rand(x0.shape, generator=generator)
    estimates = PROCESS.bound(network, x0, None, t, draws).view(len(SEQUENCES), count)
    error = estimates.std(1) / count**0.5
    assert ((estimates.mean(1) - limit(network)).abs() < 5 * error + 1e-9).all()


@pytest.mark.parametrize("make", [perfect, flawed])
def test_the_bound_by_counting_is_the_same_bound(p, make):
    """Exactly: all counts, and all orders of the draws."""
    network, estimates = make(p), []
    for n, order in itertools.product(range(1, L + 1), itertools.permutations((0.1, 0.5, 0.7))):
        counts, draws = torch.full((len(SEQUENCES),), n), torch.tensor(order).expand(27, -1)
        estimates.append(PROCESS.bound_by_count(network, SEQUENCES, None, counts, draws))
    torch.testing.assert_close(torch.stack(estimates).mean(0), limit(network))


def test_random_bounds_mask_every_count_equally_often():
    seen = []

    def network(ids, timestep, context):
        seen.append((ids == V).sum(1))
        assert timestep.tolist() == pytest.approx((seen[-1] / ids.shape[1]).tolist())
        return torch.zeros(*ids.shape, V)

    nats = PROCESS.random_bound(network, torch.zeros(20, 5).long())
    assert torch.bincount(seen[0]).tolist() == [0, 4, 4, 4, 4, 4]
    torch.testing.assert_close(nats, torch.full((20,), 5 * math.log(V)))  # without any noise


def test_the_estimate_by_hand():
    logits = torch.tensor([[[0.1, 0.7, 0.2], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2]]]).log()
    seen = []

    def network(ids, timestep, context):
        seen.append((ids.tolist(), timestep.tolist(), context))
        return logits

    x0, draws = torch.tensor([[1, 2, 0]]), torch.tensor([[0.1, 0.9, 0.3]])
    nats = PROCESS.bound(network, x0, "context", torch.tensor([0.5]), draws)
    assert nats.item() == pytest.approx(-(math.log(0.7) + math.log(0.6)) / 0.5)
    assert seen == [([[V, 2, V]], [0.5], "context")]


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_the_sampler_draws_from_the_chain(p, steps):
    count = 20_000
    drawn = PROCESS.sample(
        perfect(p), (count, L), steps=steps, generator=torch.Generator().manual_seed(0)
    )
    expected = chain(perfect(p), steps)
    found = (drawn[:, None] == SEQUENCES).all(2).double().mean(0)
    error = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() < 5 * error + 1e-9).all()


def test_a_trajectory_starts_with_masks_and_never_changes_its_mind(p):
    path = list(PROCESS.trajectory(perfect(p), (64, L), steps=5))
    assert len(path) == 6 and (path[0] == V).all() and (path[-1] < V).all()
    for before, after in itertools.pairwise(path):
        assert torch.equal(before[before < V], after[before < V])


def test_the_surest_masks_are_lifted_first():
    x = torch.tensor([[V, 1, V, V]])
    p = torch.tensor([[[0.5, 0.2, 0.3], [1, 0, 0], [0, 0.1, 0.9], [0.6, 0.4, 0]]])
    for s, masks in ((0.75, {0, 2, 3}), (0.5, {0, 3}), (0.25, {0}), (0.0, set())):
        out = PROCESS.surest(x, p.log(), 0.75, s, torch.Generator().manual_seed(0))
        assert set((out[0] == V).nonzero()[:, 0].tolist()) == masks and out[0, 1] == 1


def test_with_a_perfect_network_the_order_does_not_matter(p):
    """One mask at a time, wherever the network is surest: the chain rule still."""
    count, generator = 20_000, torch.Generator().manual_seed(0)
    drawn = PROCESS.sample(perfect(p), (count, L), generator=generator, order="surest")
    found = (drawn[:, None] == SEQUENCES).all(2).double().mean(0)
    error = (p * (1 - p) / count).sqrt()
    assert ((found - p).abs() < 5 * error + 1e-9).all()


def test_seeds_repeat_a_sample(p):
    first, again, other = (
        PROCESS.sample(perfect(p), (32, L), generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_guidance_of_logits_is_a_product_of_powers():
    """Equation 15a.6: p_w is proportional to p(x)^(1 - w) p(x | c)^w, for each token."""
    unconditional, conditional = torch.rand(2, 1, L, V).double() + 0.1

    def network(ids, timestep, context):
        return torch.where((context == 0)[:, None, None], conditional, unconditional).log()

    ids, labels = torch.full((1, L), V), torch.tensor([0])
    p = guided(network, 1, 2.5)(ids, torch.tensor([0.5]), labels).softmax(2)
    expected = unconditional ** (1 - 2.5) * conditional**2.5
    torch.testing.assert_close(p, expected / expected.sum(2, keepdim=True))


def uniform(ids, timestep=None, context=None):
    return torch.zeros(*ids.shape, V)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: PROCESS.loss(uniform, torch.tensor([[0, V]])), "x0: expected values in [0, 2]"),
        (lambda: PROCESS.loss(uniform, torch.tensor([0, 1])), "x0: expected (B, L) torch.int32"),
        (lambda: PROCESS.loss(uniform, torch.rand(2, 3)), "x0: expected (B, L) torch.int32"),
        (
            lambda: PROCESS.loss(lambda ids, t, c: torch.zeros(*ids.shape, V + 1), SEQUENCES),
            "logits: expected (B, L, 3), got (27, 3, 4)",
        ),
        (lambda: PROCESS.sample(uniform, (2, 3), steps=0), "steps must be a whole number"),
        (lambda: PROCESS.sample(uniform, (2, 3), order="any"), "unknown order 'any'"),
        (lambda: PROCESS.sample(uniform, (0, 3)), "sequences must be a whole number"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, told):
    with pytest.raises(ValueError) as refused:
        call()
    assert told in str(refused.value) and "\n" not in str(refused.value)
