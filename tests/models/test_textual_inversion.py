"""Textual inversion: what a new word stands for, and that its vectors are all that is learned."""

import copy

import pytest
import torch

from course_lib.models import PromptEncoder, TextEncoder, TextualInversion, Tokenizer

WORDS = Tokenizer.train(["a red circle, a blue square"], vocab_size=60, length=9)


@pytest.fixture
def clip():
    torch.manual_seed(0)
    text = TextEncoder(len(WORDS), length=9, dim=8, layers=1, heads=2)
    return PromptEncoder(WORDS, text)


def test_at_first_it_means_the_word_that_it_starts_from(clip):
    """To the last bit, at every place in a caption; and other captions are as before."""
    new = TextualInversion(clip, "<toy>", start="circle")
    captions = ["a red <toy>", "<toy>", "a <toy>, a blue <toy>.", "a blue square", ""]
    before = [caption.replace("<toy>", "circle") for caption in captions]
    assert torch.equal(new.context(captions), clip.context(before))


def test_its_ids_follow_the_vocabulary(clip):
    new, v = TextualInversion(clip, "<toy>", torch.randn(2, 8)), len(WORDS)
    a, red = WORDS.encode("a red")[1:-1]
    ends = [WORDS.end] * 4
    assert new.ids("a red <toy>").tolist() == [[WORDS.start, a, red, v, v + 1, *ends]]


def test_by_hand_a_vector_takes_the_place_of_the_words(clip):
    new, ids = TextualInversion(clip, "<toy>", torch.randn(1, 8)), WORDS("a circle")
    expected = copy.deepcopy(clip)
    place = ids[0].tolist().index(WORDS.encode("circle")[1])
    expected.text_encoder.token_embedding.weight.data[ids[0, place]] = new.vectors[0]
    torch.testing.assert_close(new.context("a <toy>"), expected.context("a circle"))


def test_only_its_vectors_are_trained(clip):
    new = TextualInversion(clip, "<toy>", start="circle")
    before = {name: weight.clone() for name, weight in clip.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in new.parameters() if p.requires_grad], lr=0.1)
    start = new.vectors.detach().clone()
    new.context(["a red <toy>", "a blue square"]).square().sum().backward()
    optimizer.step()
    assert [name for name, p in new.named_parameters() if p.grad is not None] == ["vectors"]
    assert not torch.equal(new.vectors, start)
    assert all(torch.equal(weight, before[name]) for name, weight in clip.state_dict().items())
    new.zero_grad()
    new.context(["a blue square"]).square().sum().backward()
    assert not new.vectors.grad.any()  # a caption without the word says nothing about it


@pytest.mark.parametrize(
    ("word", "start", "line"),
    [
        ("<toy>", "", r"start: expected \(N, 8\) .*, got \(0, 8\)"),
        ("<toy>", "cat", "unknown words: 'cat'"),
        ("<toy>", torch.zeros(1, 7), r"start: expected \(N, 8\) .*, got \(1, 7\)"),
        ("<toy>", torch.zeros(8), r"start: expected \(N, 8\) .*, got \(8,\)"),
        ("<toy>", torch.zeros(0, 8), r"start: expected \(N, 8\) .*, got \(0, 8\)"),
    ],
)
def test_words_that_it_refuses(clip, word, start, line):
    with pytest.raises(ValueError, match=line):
        TextualInversion(clip, word, start)


def test_captions_that_it_refuses(clip):
    new = TextualInversion(clip, "<toy>", torch.randn(3, 8))
    with pytest.raises(ValueError, match=r"expected at most 9 tokens, got 11"):
        new.context(["<toy> <toy> <toy>"])
    with pytest.raises(ValueError, match="unknown words: 'purple'"):
        new.context(["a purple <toy>"])
    with pytest.raises(ValueError, match="unknown words"):
        clip.context(["a <toy>"])
