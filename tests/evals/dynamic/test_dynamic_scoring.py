"""Scores in merged tokens against the model's own, against plain transformers, and as a code of bytes."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_hypernetworks import write_hypernetwork
from tiny import varied_texts
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.models.bits_per_byte import score
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.shared_windows import Reader, tokenise_shared
from cpt.models.tokenizer import load_tokenizer
from evals.dynamic.model import GrownVocabulary, load_cache
from evals.dynamic.scoring import DynamicScores, score_dynamic
from evals.dynamic.windows import batches, word_windows
from tokenizer_tools.dynamic.merges import MergedTokens, find_merges
from tokenizer_tools.dynamic.words import WordBoundaries, ids_of
from tokenizer_tools.hypernetwork.source import read_source

TEXTS = [*varied_texts(9), "", "Nine kidneys 日本. " * 12]


def documents(texts: list[str]) -> Iterator[Document]:
    return (Document(id=str(number), text=text) for number, text in enumerate(texts))


def untied(model: Path, folder: Path) -> Path:
    loaded = AutoModelForCausalLM.from_pretrained(model)
    loaded.config.tie_word_embeddings = False
    torch.manual_seed(3)
    loaded.lm_head.weight = torch.nn.Parameter(torch.randn_like(loaded.lm_head.weight) * 0.2)
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.fixture(params=["tied", "untied"])
def model(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    folder = tiny_model if request.param == "tied" else untied(tiny_model, tmp_path / "untied")
    write_hypernetwork(tmp_path / "hypernetwork", folder)
    return folder


def grown(model: Path, hypernetwork: Path) -> GrownVocabulary:
    source = read_source(model)
    return GrownVocabulary(load_model(model), source, load_cache(hypernetwork, source, source))


def reader(model: Path, window: int = 24, start: str | None = "<s>") -> Reader:
    return Reader.of(load_tokenizer(model), window, start, overlap=8)


def scored(
    model: Path, tmp_path: Path, texts: list[str], share: float, read: Reader | None = None
) -> DynamicScores:
    found = read or reader(model)
    return score_dynamic(
        grown(model, tmp_path / "hypernetwork"), read_source(model).vocabulary, found, documents(texts), share
    )


@pytest.mark.parametrize("start", ["<s>", None])
def test_without_merging_the_figure_is_the_usual_one(model: Path, tmp_path: Path, start: str | None) -> None:
    found = scored(model, tmp_path, TEXTS, 0.0, reader(model, start=start))
    text = tokenise_shared([reader(model, start=start)], TEXTS).texts[0]
    expected = score(PackedLanguageModel(load_model(model)), text)
    for each in (found.merged.usual, found.merged.merged):
        assert each.bytes.tolist() == expected.bytes.tolist()
        np.testing.assert_allclose(each.nats, expected.nats, rtol=1e-5)
    assert (found.merged.lengths.removed, found.tokens) == (0, 0)
    assert found.prefill is not None
    np.testing.assert_allclose(found.prefill.merged.nats, found.prefill.usual.nats, rtol=1e-5)
    assert found.prefill.lengths.removed == 0


@pytest.mark.parametrize("start", ["<s>", None])
def test_windows_are_those_of_today(tiny_model: Path, start: str | None) -> None:
    read = reader(tiny_model, start=start)
    vocabulary = read_source(tiny_model).vocabulary
    boundaries = WordBoundaries(read.tokenizer, vocabulary.surfaces)
    expected = tokenise_shared([read], TEXTS).texts[0]
    found = list(word_windows(read, boundaries, documents(TEXTS)))
    ids = [[*each.start, *ids_of(each.context), *ids_of(each.scored)] for each in found]
    assert ids == [each.tolist() for each in expected.windows]
    assert [each.tokens - len(ids_of(each.scored)) for each in found] == expected.context.tolist()
    sizes = [
        sum(each.bytes for each in group) for _, group in itertools.groupby(found, lambda each: each.document)
    ]
    assert sizes == expected.bytes.tolist()
    assert [each.continues for each in found] == [
        place > 0 and found[place - 1].document == each.document for place, each in enumerate(found)
    ]
    grouped = list(batches(found, 40))
    assert [each for batch in grouped for each in batch] == found
    assert max(sum(each.tokens for each in batch) for batch in grouped) <= 40


def by_transformers(model: Path, tmp_path: Path, share: float) -> tuple[dict[int, float], dict[int, float]]:
    """Score each batch with plain transformers: in merged tokens, and in own tokens after merged context."""
    read, vocabulary = reader(model), read_source(model).vocabulary
    cache = load_cache(tmp_path / "hypernetwork", read_source(model), read_source(model))
    plain = AutoModelForCausalLM.from_pretrained(model)
    own_in, own_out = plain.get_input_embeddings().weight, plain.get_output_embeddings().weight
    tied = own_in is own_out
    boundaries = WordBoundaries(read.tokenizer, vocabulary.surfaces)
    merged: dict[int, float] = {}
    prefill: dict[int, float] = {}
    history: list[tuple[int, ...]] = []

    def nats(ids: list[int], held: int, tokens: MergedTokens, predicts: bool) -> float:
        made = cache.rows(tokens.surfaces)
        rows_in = torch.cat([own_in, made["tied" if tied else "input"]])
        rows_out = torch.cat([own_out, made["tied" if tied else "output"]]) if predicts else own_out
        states = plain.model(inputs_embeds=rows_in[torch.tensor(ids)][None]).last_hidden_state[0]
        logits = states @ rows_out.T
        assert logits.softmax(1).sum(1).allclose(torch.ones(len(ids)))
        return float(cross_entropy(logits[held - 1 : -1], torch.tensor(ids[held:]), reduction="sum"))

    with torch.no_grad():
        for batch in batches(word_windows(read, boundaries, documents(TEXTS)), read.windows.size):
            tokens = MergedTokens(vocabulary.surfaces, len(own_in))
            merges = find_merges(history, share, tokens)
            for window in batch:
                known = [*window.start, *ids_of(merges.apply(window.context))]
                value = nats([*known, *ids_of(merges.apply(window.scored))], len(known), tokens, True)
                merged[window.document] = merged.get(window.document, 0) + value
                if window.continues:
                    alone = MergedTokens(vocabulary.surfaces, len(own_in))
                    context = find_merges(window.context, share, alone).apply(window.context)
                    known = [*window.start, *ids_of(context)]
                    value = nats([*known, *ids_of(window.scored)], len(known), alone, False)
                    prefill[window.document] = prefill.get(window.document, 0) + value
            history += [word for window in batch for word in window.scored]
    return merged, prefill


@pytest.mark.parametrize("share", [0.15, 1.0])
def test_scores_are_those_of_transformers(model: Path, tmp_path: Path, share: float) -> None:
    found = scored(model, tmp_path, TEXTS, share)
    merged, prefill = by_transformers(model, tmp_path, share)
    np.testing.assert_allclose(found.merged.merged.nats, list(merged.values()), rtol=1e-5)
    assert found.prefill is not None
    np.testing.assert_allclose(found.prefill.merged.nats, list(prefill.values()), rtol=1e-5)
    assert not np.allclose(found.prefill.merged.nats, found.prefill.usual.nats, rtol=1e-4)
    assert found.merged.lengths.removed > 0
    assert found.prefill.lengths.removed >= 0.15
    assert found.tokens > 1


def test_later_text_does_not_change_earlier_scores(tiny_model: Path, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "hypernetwork", tiny_model)
    one = scored(tiny_model, tmp_path, [*TEXTS[:6], TEXTS[7]], 0.5).merged.merged.nats
    other = scored(tiny_model, tmp_path, [*TEXTS[:6], TEXTS[8] * 2], 0.5).merged.merged.nats
    np.testing.assert_allclose(one[:5], other[:5], rtol=1e-6)
    assert one[6] != other[6]


def write_letters(folder: Path) -> Path:
    """A model of the tokens a, b and ab, and of one before every text."""
    ids = {"<s>": 0, "a": 1, "b": 2, "ab": 3}
    tokenizer = Tokenizer(models.BPE(ids, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 4, "hidden_size": 16, "intermediate_size": 16}
    config = LlamaConfig(
        **shape, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=True, initializer_range=0.5
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_figures_are_those_of_a_code(tmp_path: Path, share: float) -> None:
    """All texts of one length together are no more likely than 1, as the merges are known before."""
    folder = write_letters(tmp_path / "letters")
    write_hypernetwork(tmp_path / "hypernetwork", folder)
    read, total = reader(folder, window=12), 0.0
    before = "abbaabbaabaa"
    for letters in itertools.product("ab", repeat=5):
        found = scored(folder, tmp_path, [before, "".join(letters)], share, read)
        assert (found.tokens > 0) == (share > 0)
        total += math.exp(-found.merged.merged.nats[1])
    assert 0.01 < total <= 1


def test_nothing_to_score(tiny_model: Path, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "hypernetwork", tiny_model)
    with pytest.raises(DataError, match="there is no text to score"):
        scored(tiny_model, tmp_path, [""], 0.2)


def test_short_documents_have_no_context_to_merge(tiny_model: Path, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "hypernetwork", tiny_model)
    assert scored(tiny_model, tmp_path, TEXTS[:3], 0.2, reader(tiny_model, 128)).prefill is None
