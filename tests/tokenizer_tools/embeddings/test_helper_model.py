"""The helper: what it knows, its loss in closed form, seeds, and the folder that it is written to."""

from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SENTENCES, write_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import StageFailed
from tokenizer_tools.helper_model import Helper, in_batch_loss, tokenised, train_helper
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

TEXTS = SENTENCES * 10


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return read_vocabulary(write_tiny_model(tmp_path_factory.mktemp("tiny")))


def trained(vocabulary: Vocabulary | Path, output: Path | None = None, **settings: Any) -> Helper:
    return train_helper(
        vocabulary, lambda: iter(TEXTS), output, **{"width": 32, "layers": 1, "tokens": 2000} | settings
    )


def counts(vocabulary: Vocabulary) -> np.ndarray:
    """How often each token occurs in what the helper reads of TEXTS: whole sequences of 128."""
    ids = np.concatenate(list(tokenised(vocabulary.tokenizer, TEXTS, 2000)))
    return np.bincount(ids[: len(ids) // 128 * 128], minlength=len(vocabulary.tokens))


@pytest.mark.parametrize("min_count", [1, 12])
def test_knows_the_tokens_that_are_frequent_enough(vocabulary: Vocabulary, min_count: int) -> None:
    helper = trained(vocabulary, min_count=min_count)
    assert helper.matrix_VD.shape == (300, 32)
    assert helper.matrix_VD.dtype == torch.float32
    assert (helper.known_V == (counts(vocabulary) >= min_count)).all()
    assert (helper.matrix_VD.any(dim=1).numpy() == helper.known_V).all()


def test_seeds_decide_and_the_global_generator_does_not(vocabulary: Vocabulary) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = trained(vocabulary).matrix_VD
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first, trained(vocabulary).matrix_VD)
    assert not torch.equal(first, trained(vocabulary, seed=1).matrix_VD)


def test_learns_what_follows_what(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trained(vocabulary, tmp_path, tokens=60_000, min_count=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = vocabulary.tokenizer.encode("".join(TEXTS[:4]), add_special_tokens=False).ids
    shares = counts(vocabulary)[ids] / counts(vocabulary).sum()
    with torch.no_grad():
        loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    assert loss < 0.8 * -np.log(shares).mean()


def test_tells_ten_times_how_far_it_is(vocabulary: Vocabulary) -> None:
    said: list[str] = []
    train_helper(vocabulary, lambda: iter(TEXTS), width=32, layers=1, tokens=50_000, progress=said.append)
    assert len(said) == 10
    steps = 50_000 // counts(vocabulary).sum()  # all sequences are one batch
    assert said[-1].startswith(f"training a helper: {steps} of {steps} steps, loss ")


def test_width_and_layers(vocabulary: Vocabulary, tmp_path: Path) -> None:
    assert trained(vocabulary, tmp_path, width=40, layers=3).matrix_VD.shape == (300, 64)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.num_hidden_layers == 3


def test_the_folder_is_a_model_with_the_tokenizer(vocabulary: Vocabulary, tmp_path: Path) -> None:
    helper = trained(vocabulary.folder, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(model.get_input_embeddings().weight, helper.matrix_VD)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (model.config.vocab_size, model.config.bos_token_id, model.config.eos_token_id) == (300, 0, 1)
    assert model(torch.arange(20)[None]).logits.isfinite().all()
    text = "Nine kidneys."
    expected = AutoTokenizer.from_pretrained(vocabulary.folder)(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == expected


@pytest.mark.parametrize(
    ("texts", "message"), [([], "no tokens"), (["a"], "no tokens"), (["a b c"], "hold no token 5 times")]
)
def test_too_little_text(vocabulary: Vocabulary, texts: list[str], message: str) -> None:
    with pytest.raises(StageFailed, match=message):
        train_helper(vocabulary, lambda: iter(texts))


def test_reads_no_more_text_than_needed(vocabulary: Vocabulary) -> None:
    read = []

    def texts() -> Iterator[str]:
        for number in range(10_000):
            read.append(number)
            yield SENTENCES[0]

    documents = list(tokenised(vocabulary.tokenizer, texts(), 100))
    assert sum(map(len, documents)) == 100
    assert len(read) < 200
    assert vocabulary.tokenizer.encode(SENTENCES[0]).ids == documents[0].tolist()


def test_loss_in_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    states, rows = torch.randn(5, 4, generator=generator), torch.randn(6, 4, generator=generator)
    targets = torch.tensor([4, 1, 4, 0, 1])
    frequencies = torch.tensor([0.1, 0.3, 0.2, 0.1, 0.25, 0.05]).double()
    candidates = [0, 1, 4]
    present = {i: 1 - (1 - frequencies[i].item()) ** 5 for i in candidates}
    expected = []
    for state, target in zip(states, targets.tolist(), strict=True):
        scores = {i: (state @ rows[i]).exp().item() / present[i] for i in candidates}
        expected.append(-log(scores[target] / sum(scores.values())))
    loss = in_batch_loss(states, targets, rows, frequencies)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_loss_is_the_full_cross_entropy_where_a_batch_has_every_token() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, targets = torch.randn(8, 4, generator=generator), torch.arange(8).repeat(200)
    states = torch.randn(1600, 4, generator=generator)
    loss = in_batch_loss(states, targets, rows, torch.full((8,), 1 / 8).double())
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(states @ rows.T, targets).item())
