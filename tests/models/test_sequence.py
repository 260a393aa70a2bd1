"""The transformer of token sequences: what each position may see, and what is refused."""

import pytest
import torch

from course_lib.models import SequenceTransformer

SMALL = dict(vocab_size=7, length=10, dim=16, layers=2, heads=2)
IDS = torch.randint(8, (3, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def changed(network, place):
    """Which positions' logits change when the id at one place does."""
    other = IDS.clone()
    other[:, place] = (other[:, place] + 1) % 8
    with torch.no_grad():
        return (network(IDS) != network(other)).any(2).any(0).nonzero().flatten().tolist()


def test_a_causal_position_sees_what_is_left_of_it_and_the_other_kind_sees_all():
    assert changed(SequenceTransformer(**SMALL, causal=True), 4) == [4, 5, 6, 7, 8, 9]
    assert changed(SequenceTransformer(**SMALL), 4) == list(range(10))


def test_the_twins_have_the_same_weights():
    twins = [SequenceTransformer(**SMALL, classes=3, causal=causal) for causal in (False, True)]
    shapes = [{name: x.shape for name, x in twin.state_dict().items()} for twin in twins]
    assert shapes[0] == shapes[1]


def test_a_shorter_sequence_is_read_as_the_start_of_a_longer_one():
    network = SequenceTransformer(**SMALL, causal=True)
    torch.testing.assert_close(network(IDS)[:, :4], network(IDS[:, :4]))


def test_the_class_matters_and_the_timestep_does_not():
    network = SequenceTransformer(**SMALL, classes=3)
    some, other, none = (torch.full((3,), label) for label in (0, 2, 3))
    assert not torch.equal(network(IDS, None, some), network(IDS, None, other))
    assert network(IDS, None, none).isfinite().all()
    first, second = (network(IDS, torch.full((3,), t), some) for t in (0.1, 0.9))
    assert torch.equal(first, second)


def test_it_is_rebuilt_from_its_kwargs():
    network = SequenceTransformer(**SMALL, classes=3, causal=True)
    again = SequenceTransformer(**network.kwargs)
    again.load_state_dict(network.state_dict())
    labels = torch.tensor([0, 1, 3])
    torch.testing.assert_close(again(IDS, None, labels), network(IDS, None, labels))


@pytest.mark.parametrize(
    ("ids", "context", "told"),
    [
        (IDS.float(), None, "ids: expected (B, L) torch.int32 or torch.int64"),
        (IDS[0], None, "ids: expected (B, L)"),
        (IDS + 1, None, "expected values in [0, 7], got"),
        (torch.zeros(1, 11).long(), None, "at most 10 in a row"),
    ],
)
def test_bad_input_is_refused(ids, context, told):
    with pytest.raises(ValueError) as refused:
        SequenceTransformer(**SMALL)(ids, None, context)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_no_context_is_any_class():
    network = SequenceTransformer(**SMALL, classes=3)
    assert torch.equal(network(IDS), network(IDS, None, torch.full((3,), 3)))


@pytest.mark.parametrize(
    "context", [torch.zeros(3), torch.tensor([0, 1, 4]), torch.zeros(2).long()]
)
def test_bad_classes_are_refused(context):
    with pytest.raises(ValueError, match="context: expected"):
        SequenceTransformer(**SMALL, classes=3)(IDS, None, context)
