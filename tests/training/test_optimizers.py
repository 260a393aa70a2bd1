"""Muon: its defining identity, agreement with torch's version, and all parameters are updated."""

import pytest
import torch
from torch import nn

from course_lib.training.optimizers import Muon, muon, orthogonal
from tests.training import flat


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_orthogonal_keeps_the_directions_and_evens_out_the_lengths(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, lengths, vh = torch.linalg.svd(matrix, full_matrices=False)
    lengths = lengths / lengths.norm()
    for _ in range(4):
        lengths = 3.4445 * lengths - 4.7750 * lengths**3 + 2.0315 * lengths**5
    torch.testing.assert_close(u.T @ orthogonal(matrix) @ vh.T, lengths.diag())


def test_four_rounds_even_out_lengths_down_to_a_200th_of_the_norm():
    small = torch.logspace(-2.3, -1, 24, dtype=torch.float64)  # 1/200 … 1/10 of a norm of 1
    large = (1 - small.square().sum()).sqrt()
    evened = orthogonal(torch.cat([small, large[None]]).diag()).diagonal()
    assert evened.min() > 0.66 and evened.max() < 1.21


def test_a_matrix_moves_as_under_torch_optim_muon():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(12, 20)) for _ in range(2))
    mine = Muon([ours], lr=0.1, weight_decay=0.2)
    alike = dict(lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw", ns_steps=4)
    twin = torch.optim.Muon([theirs], **alike)
    for _ in range(5):
        ours.grad = torch.randn(12, 20)
        theirs.grad = ours.grad.clone()
        mine.step()
        twin.step()
    moved = (theirs - 1).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # bf16 rounds differently on the two ways


def test_a_kernel_moves_as_the_matrix_that_it_is():
    torch.manual_seed(0)
    kernel, matrix = nn.Parameter(torch.zeros(6, 4, 3, 3)), nn.Parameter(torch.zeros(6, 36))
    kernel.grad = torch.randn(6, 4, 3, 3)
    matrix.grad = kernel.grad.flatten(1)
    Muon([kernel]).step()
    Muon([matrix]).step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_every_parameter_has_exactly_one_optimiser():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    kernels, rest = muon(model, 1e-3, (0.9, 0.999), 0.0)
    held = [p for o in (kernels, rest) for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    assert [p.shape for p in kernels.param_groups[0]["params"]] == [(6, 4), (2, 6)]


def test_resumes_with_the_same_numbers(tmp_path):
    def begin(folder):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))
        return flat.begin(
            model,
            lambda model, x: (model(x) - x.sum(1, keepdim=True)).square().mean(),
            lambda step: torch.randn(16, 3),
            steps=8,
            optimizer="muon",
            folder=folder,
            save_every=3,
        )

    whole = [step.loss for step in begin(tmp_path / "whole")]
    interrupted = begin(tmp_path / "parts")
    for step in interrupted:
        if step.index == 4:  # the last complete state is that of step 3
            break
    assert [step.loss for step in begin(tmp_path / "parts")] == whole[3:]
