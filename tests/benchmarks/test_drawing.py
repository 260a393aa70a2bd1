"""What the benchmark of drawing compares does the same work."""

import torch

from tests.benchmarks import drawing


def test_in_onnx_runtime_the_networks_answer_alike(toy_pipeline):
    there = drawing.in_onnx(toy_pipeline)
    for batch in (1, 4):  # exported with two
        torch.manual_seed(batch)
        x, timestep = torch.randn(batch, *toy_pipeline.latent), 1000 * torch.rand(batch)
        context = toy_pipeline.clip.context(["a red circle"] * batch)
        pairs = [(there.unet, toy_pipeline.unet, (x, timestep, context))]
        pairs += [(there.vae.decode, toy_pipeline.vae.decode, (x,))]
        for theirs, ours, inputs in pairs:
            with torch.no_grad():
                expected = ours(*inputs)
            torch.testing.assert_close(theirs(*inputs), expected, atol=1e-3, rtol=1e-3)
    assert drawing.ours(there)(["a red circle"], [0]).shape == (1, 3, 32, 32)


def test_compiling_leaves_the_pipeline_as_it_is(toy_pipeline):
    fast = drawing.compiled(toy_pipeline)
    for module in (fast.unet, fast.vae.decoder):
        assert module._compiled_call_impl is not None
    for module in (toy_pipeline.unet, toy_pipeline.vae.decoder):
        assert module._compiled_call_impl is None
