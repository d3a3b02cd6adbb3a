"""The packed model behind lm-eval, against a plain forward pass and against lm-eval's own HFLM."""

import logging
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer
from evals.harness import score_choices
from evals.models import language_model
from evals.models.language_model import PackedLM
from evals.models.prompting import Prompting
from evals.models.request_cache import request_key
from evals.multiple_choice import Item

ITEMS = [
    Item("The heart of the", (" matter is", " kidneys, said"), 0),
    Item("Nine kidneys, said the doctor,", (" fever", " are too many kidneys."), 1),
    Item("What", (" the nerve conducts, the muscle contracts.", " is a fever", " x"), 0),
] * 3


def packed(folder: Path, start_token: str | None = None, **options) -> PackedLM:
    model = PackedLanguageModel(load_model(folder))
    return PackedLM(model, load_tokenizer(folder), start_token=start_token, **options)


def plain(folder: Path, start: list[int]) -> np.ndarray:
    """Log-likelihoods of the first item's choices, one forward pass each, in nats."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    found = []
    for choice in ITEMS[0].choices:
        context, whole = (
            tokenizer.encode(ITEMS[0].question).ids,
            tokenizer.encode(ITEMS[0].question + choice).ids,
        )
        ids = torch.tensor([start + whole])
        with torch.no_grad():
            logp = model(ids).logits[0].log_softmax(-1)
        places = range(len(start) + len(context), ids.shape[1])
        found.append(sum(logp[place - 1, ids[0, place]].item() for place in places))
    return np.array(found)


class Request:
    def __init__(self, *args: str) -> None:
        self.args = args


@pytest.mark.parametrize("start_token", [None, "<s>"])
def test_likelihoods_are_those_of_a_plain_forward_pass(start_token: str | None, tiny_model: Path) -> None:
    requests = [Request(item.question, choice) for item in ITEMS for choice in item.choices]
    found = [score for score, _ in packed(tiny_model, start_token).loglikelihood(requests)]
    assert np.allclose(found[:2], plain(tiny_model, [0] if start_token else []), atol=1e-4)


def test_scores_are_those_of_lm_evals_own_model(tiny_model: Path, tmp_path: Path) -> None:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    reference = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(tiny_model),
        tokenizer=AutoTokenizer.from_pretrained(tiny_model),
    )
    ours = score_choices(packed(tiny_model), {"t": ITEMS}, tmp_path / "a")["t"]
    theirs = score_choices(reference, {"t": ITEMS}, tmp_path / "b")["t"]
    assert np.array_equal(ours.acc, theirs.acc)
    assert np.array_equal(ours.acc_norm, theirs.acc_norm)


def test_batches_do_not_change_scores(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(item.question, choice) for item in ITEMS for choice in item.choices]
    at_once = packed(tiny_model).loglikelihood(requests)
    monkeypatch.setattr(language_model, "BATCH_TOKENS", 30)
    seen: list[tuple[int, int]] = []
    batched = packed(tiny_model, on_progress=lambda *now: seen.append(now)).loglikelihood(requests)
    assert np.allclose([score for score, _ in at_once], [score for score, _ in batched], atol=1e-5)
    assert len(seen) > 2
    assert seen[-1] == (len(requests), len(requests))


def test_a_context_longer_than_the_model_reads_loses_its_beginning(tiny_model: Path) -> None:
    long = "The heart of the matter is the heart. " * 60
    [(score, _)] = packed(tiny_model).loglikelihood([Request(long, " fever")])
    assert np.isfinite(score)


def test_scores_are_by_item_and_text_is_never_a_template_nor_the_network_asked(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    class Oracle(PackedLM):
        """Likes what ends with an exclamation mark."""

        def loglikelihood(self, requests, disable_tqdm=True):
            return [(float(request.args[1].endswith("!")), False) for request in requests]

    items = [
        Item("{{ question }} {% raw %}", (" {{ 7 * 7 }}", " yes!"), 1),
        Item("second", (" no", " also no!"), 0),
        Item("third", (" a", " b", " c!"), 2),
    ]
    model = Oracle(
        PackedLanguageModel(load_model(tiny_model)),
        load_tokenizer(tiny_model),
        start_token=None,
    )
    scores = score_choices(model, {"one": items, "two": items[1:]}, tmp_path)
    assert scores["one"].acc.tolist() == [1, 0, 1]
    assert scores["two"].acc.tolist() == [0, 1]
    assert score_choices(model, {}, tmp_path) == {}


def reference(folder: Path) -> HFLM:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )


def own(folder: Path, **options) -> PackedLM:
    """With what precedes texts as lm-eval has it."""
    model = PackedLanguageModel(load_model(folder))
    prompting = Prompting(folder)
    return PackedLM(model, prompting.tokenizer, start_token=prompting.start, **options)


LONG = "The heart of the matter is the heart. A fever in the night is a fever still. " * 12
PAIRS = [
    ("The heart of the", " matter"),
    ("The heart of the", " matter is the heart."),
    ("The heart of the ", "matter"),
    ("", "Nine kidneys"),
    (LONG, " fever still."),
    (LONG, " kidneys"),
    ("Nine kidneys, said the", " doctor"),
    ("Nine kidneys, said the", " doctor"),
]


def test_likelihoods_and_greediness_are_those_of_lm_evals_own_model(tiny_model: Path) -> None:
    theirs = reference(tiny_model)
    requests = [Request(*pair) for pair in PAIRS]
    [greedy] = theirs.generate_until([Request("The heart", {"until": [], "max_gen_toks": 3})])
    requests += [Request("The heart", greedy), Request("The heart", greedy + greedy)]
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    for model in (own(tiny_model), own(tiny_model, batch_tokens=20)):
        found = model.loglikelihood(requests)
        assert np.allclose([nats for nats, _ in found], [nats for nats, _ in expected], atol=1e-4)
        assert [likeliest for _, likeliest in found] == [likeliest for _, likeliest in expected]
    assert found[-2][1]


def test_whole_texts_are_scored_in_lm_evals_windows(tiny_model: Path) -> None:
    requests = [Request(text) for text in ("The heart.", LONG, "A fever " * 64)]
    expected = reference(tiny_model).loglikelihood_rolling(requests, disable_tqdm=True)
    assert np.allclose(own(tiny_model).loglikelihood_rolling(requests), expected, rtol=1e-5)


def test_what_loses_its_beginning_is_known(tiny_model: Path) -> None:
    model = own(tiny_model)
    model.loglikelihood([Request(*pair) for pair in PAIRS])
    assert model.truncated == {request_key("loglikelihood", pair) for pair in PAIRS if pair[0] == LONG}
    settings = {"until": ["."], "max_gen_toks": 4}
    model.generate_until([Request(LONG, settings), Request("The heart", settings)])
    assert request_key("generate_until", (LONG, settings)) in model.truncated
    assert len(model.truncated) == 3


def test_every_answer_is_told_as_soon_as_it_is_there(tiny_model: Path) -> None:
    told: list[tuple] = []

    class Hook:
        def add_partial(self, *answer) -> None:
            told.append(answer)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    model = own(tiny_model, batch_tokens=20, on_progress=stop)
    model.set_cache_hook(Hook())
    with pytest.raises(Stopped):
        model.loglikelihood([Request(*pair) for pair in PAIRS])
    expected = own(tiny_model).loglikelihood([Request(*pair) for pair in PAIRS])
    assert 0 < len(told) < len(PAIRS)
    for kind, pair, (nats, likeliest) in told:
        assert kind == "loglikelihood"
        assert (nats, likeliest) == (
            pytest.approx(expected[PAIRS.index(pair)][0]),
            expected[PAIRS.index(pair)][1],
        )


def test_a_start_token_that_is_none_of_the_tokenizers_is_refused(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="no token '<bos>'"):
        packed(tiny_model, "<bos>")


def test_a_request_without_a_continuation_is_refused(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="no continuation"):
        own(tiny_model).loglikelihood([Request("The heart", "")])
