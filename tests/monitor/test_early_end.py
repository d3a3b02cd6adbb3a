"""The probe of ends in mid-sentence: where it looks, and what it finds on a model by hand."""

from collections.abc import Set
from pathlib import Path

import numpy as np
import pytest
import torch

from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import ModelView
from cpt.monitor.probes.early_end import EarlyEndProbe, beginnings, sentence_ends
from cpt.monitor.schedule import AtSteps

NEVER = AtSteps(())
TEXTS = [
    "The heart is a muscle. It beats\nand rests",
    "What the nerve conducts, the muscle contracts!",
    "No.",
]


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("ab. c", "ab.| |"),
        ('He said "no." Then', 'He said "no.|"| |'),
        ("one\ntwo", "one\n|"),
        ("a (b!) c", "a (b!|)| |"),
        ("熱です。次", "熱です。|"),
        ("यह है। वह", "यह है।| |"),
        ("هل؟ نعم", "هل؟| |"),
        ("wait… go", "wait…| |"),
        ("a, b; c: d - e", ""),
    ],
)
def test_sentences_and_lines_end_in_any_language(text: str, ended: str) -> None:
    """A bar stands after each character that ends one, with what closes after it."""
    marked = "".join(
        char + "|" * end for char, end in zip(text, sentence_ends(text)[1:].tolist(), strict=True)
    )
    assert marked[: marked.rfind("|") + 1] == ended


@pytest.fixture
def subject(tiny_model: Path) -> ModelView:
    model = load_model(tiny_model)
    return ModelView(PackedLanguageModel(model), dict(model.named_parameters()))


def probe(
    tiny_model: Path,
    *texts: str,
    ends: Set[int] = frozenset({1}),
    tokens: int = 1000,
    start: str | None = "<s>",
) -> EarlyEndProbe:
    found = beginnings(load_tokenizer(tiny_model), texts, 128, start, tokens)
    return EarlyEndProbe(found, ends, NEVER)


def by_hand(subject: ModelView, tiny_model: Path, text: str, ends: Set[int], start: bool) -> list[float]:
    """The probability of an end after each token but the last, where no sentence ends there."""
    encoding = load_tokenizer(tiny_model).encode(text, add_special_tokens=False)
    model = subject.module.model
    model.set_attn_implementation("eager")
    lead = [0] if start else []
    logits = model(torch.tensor([[*lead, *encoding.ids]])).logits[0].detach().double()
    shares = logits.softmax(-1)[:, sorted(ends)].sum(-1)[len(lead) :]
    places = range(len(encoding.ids) - 1)
    return [float(shares[n]) for n in places if text[: encoding.offsets[n][1]].rstrip(" ")[-1] not in ".!\n"]


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("ends", [{1}, {1, 7}], ids=str)
def test_the_value_is_the_mean_over_places_in_mid_sentence(
    subject: ModelView, tiny_model: Path, ends: set[int], start: bool
) -> None:
    found = probe(tiny_model, *TEXTS[:2], ends=ends, start="<s>" if start else None).read(subject, 1.0)
    expected = [by_hand(subject, tiny_model, text, ends, start) for text in TEXTS[:2]]
    np.testing.assert_allclose(found.numerators, [sum(each) for each in expected], rtol=1e-4)
    assert found.denominators.tolist() == [len(each) for each in expected]
    assert found.standard_error > 0


def test_a_model_whose_head_leans_to_the_end_is_found_out(subject: ModelView, tiny_model: Path) -> None:
    """Adding a direction to the end's row and to every hidden state raises its logit by a known amount."""
    watch = probe(tiny_model, *TEXTS[:2])
    before = watch.read(subject, 1.0)
    model = subject.module.model
    model.get_output_embeddings().weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    last = model.model.norm.register_forward_hook(
        lambda _m, _i, out: torch.cat([out[..., :-1], out[..., -1:] * 0 + 1], -1)
    )
    with torch.no_grad():
        model.lm_head.weight[:, -1] = 0.0
        model.lm_head.weight[1, -1] = 3.0
    after = watch.read(subject, 1.0)
    last.remove()
    rise, error = after.rise_over(before)
    assert after.value > 5 * before.value
    assert rise > 4 * error > 0
    assert after.detail["anywhere"] > 5 * before.detail["anywhere"]


def test_the_true_end_is_no_place_but_a_cut_window_goes_on(tiny_model: Path) -> None:
    text = "the muscle of the heart and the nerve of the night " * 20
    tokenizer = load_tokenizer(tiny_model)
    count = len(tokenizer.encode(text, add_special_tokens=False))
    assert count > 200
    [whole] = beginnings(tokenizer, [text], 1000, "<s>", 8 * 1000)
    assert len(whole.ids) == count + 1
    assert whole.inside.tolist() == list(range(1, count))
    [cut] = beginnings(tokenizer, [text], 50, "<s>", 1000)
    assert cut.inside.tolist() == list(range(1, 50))
    assert cut.in_sentence.all()


def test_the_sample_is_spread_over_documents(tiny_model: Path) -> None:
    texts = [f"{number} the muscle of the heart and the nerve of the night " * 40 for number in range(30)]
    tokenizer = load_tokenizer(tiny_model)
    assert len(beginnings(tokenizer, texts, 1024, "<s>", 1600)) == 8
    assert [len(each.ids) for each in beginnings(tokenizer, texts, 1024, "<s>", 300)] == [128] * 3
    assert len(beginnings(tokenizer, ["", "No.", *texts[:2]], 1024, "<s>", 16000)) == 3
    with pytest.raises(DataError, match="middle of a sentence"):
        beginnings(tokenizer, ["", "\n"], 1024, "<s>", 100)


def test_a_share_is_the_first_documents(subject: ModelView, tiny_model: Path) -> None:
    watch = probe(tiny_model, *TEXTS[:2] * 3)
    whole, half = watch.read(subject, 1.0), watch.read(subject, 0.5)
    np.testing.assert_allclose(half.numerators, whole.numerators[:3], rtol=1e-4)
    assert half.rise_over(whole)[0] == pytest.approx(0.0, abs=1e-6)
