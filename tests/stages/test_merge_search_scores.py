"""What a search measures of a merge in memory, and what the written folder scores in its own tokenizer."""

from pathlib import Path

import pytest
from tiny import clinical_texts, write_tiny_model

from cpt.models.bits_per_byte import score, tokenise_text
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import NullProgress
from cpt.stages.merge.config import MergeSearch
from cpt.stages.merge.search import Material, MergeEvaluation
from merging.plan import plan, read_inputs
from merging.request import InputModel, MergeRequest
from merging.run import run
from merging.search import search_space
from tokenizer_tools.embeddings import method
from tokenizer_tools.extension import extend_tokenizer
from tokenizer_tools.resize_model import write_model
from tokenizer_tools.transfer import plan_transfer

TEXTS = {"domain": clinical_texts()[:12], "general": [f"general text {number}" for number in range(99)]}


@pytest.fixture(scope="module")
def request_of_two(tmp_path_factory: pytest.TempPathFactory) -> MergeRequest:
    """Two models, each with tokens of its own that are learnt from one of the texts."""
    folder = tmp_path_factory.mktemp("models")
    base = write_tiny_model(folder / "base")
    for seed, (name, texts) in enumerate(TEXTS.items()):
        extend_tokenizer(base, texts, folder / name, tokens=12)
        change = plan_transfer(base, folder / name, model=base, seed=seed)
        write_model(folder / name, change, method("random"), pad_to_multiple_of=16)
    models = tuple(InputModel(name, folder / name) for name in TEXTS)
    return MergeRequest("task-arithmetic", models, InputModel("base", base))


@pytest.mark.parametrize("weights", [(0.3, 0.6), (0.5, 0.5), (0.6, 0.3), (1.0, 0.1)])
def test_a_merge_in_memory_scores_as_the_written_one_does(
    weights: tuple[float, float], request_of_two: MergeRequest, tmp_path: Path
) -> None:
    parents = read_inputs(request_of_two)
    space = search_space(request_of_two, parents)
    settings, material = MergeSearch(precision="fp32", tokens=10_000), Material(TEXTS, lambda _: "<s>", 17)
    anywhere = plan(space.request_at(space.centre), parents)
    merged = plan(space.request_at(weights), parents)
    found = MergeEvaluation(anywhere, settings, material, tmp_path, NullProgress()).merged(merged)
    run(merged, tmp_path / "written")
    model = PackedLanguageModel(load_model(tmp_path / "written"))
    tokenizer = load_tokenizer(tmp_path / "written")
    for name, documents in TEXTS.items():
        made = {token for text in documents for token in tokenizer.encode(text).tokens}
        assert len(made & set(merged.added_tokens)) >= 3
        expected = score(model, tokenise_text(tokenizer, documents, 128, "<s>")).bits_per_byte
        bits, size = found[name].numerators.sum(), found[name].denominators.sum()
        assert bits / size == pytest.approx(expected, rel=1e-6)
