"""The vocabulary stage on a tiny model and a real corpus artifact."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from made_hypernetworks import write_hypernetwork
from pydantic import ValidationError
from stage_runs import artifact, make_corpus, model_artifact, run_stage
from tiny import clinical_texts
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.corpus import read_documents, read_index
from cpt.errors import DataError, StageFailed
from cpt.models.token_ids import read_new_tokens
from cpt.recipe.fingerprint import config_data
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.vocabulary.stage import STAGE
from tokenizer_tools.extension import extend_tokenizer

CONFIG = {"extend": {"tokens": 30}}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_corpus(base, folder)}


def test_model_and_corpus_come_back_in_the_new_vocabulary(inputs, tmp_path: Path) -> None:
    metrics = run_stage(STAGE, CONFIG | {"pad_to_multiple_of": 128}, inputs, tmp_path)
    folder = tmp_path / "output" / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert len(model.get_input_embeddings().weight) == model.config.vocab_size == metrics["rows"] == 384
    assert len(tokenizer) == metrics["after"] == metrics["before"] + 30
    assert metrics["added"] == metrics["guards"]["reachable"] == 30
    assert "Carcinoma" in metrics["longest_tokens"]
    for token in metrics["longest_tokens"] + metrics["most_frequent_tokens"]:
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
    old, new = (
        read_index(corpus) for corpus in (inputs["corpus"].path("corpus"), tmp_path / "output/corpus")
    )
    assert new.tokenizer != old.tokenizer
    for source, split in (("domain", "train"), ("domain", "heldout"), ("general", "heldout")):
        was, now = (index.sources[source].splits[split] for index in (old, new))
        assert (now.documents, now.bytes) == (was.documents, was.bytes)
        assert now.tokens <= was.tokens
    for source, prefix in (("domain", ""), ("general", "general_")):
        for index, when in ((old, "before"), (new, "after")):
            measured = metrics[f"{prefix}bytes_per_token_{when}"]
            assert measured == pytest.approx(index.bytes_per_token(source, "heldout"))
    assert metrics["bytes_per_token_after"] > 1.2 * metrics["bytes_per_token_before"]
    assert json.loads(json.dumps(metrics)) == metrics


def test_tokens_are_learnt_from_training_text_alone(inputs, tmp_path: Path) -> None:
    run_stage(STAGE, CONFIG, inputs, tmp_path)
    corpus = inputs["corpus"].path("corpus")
    train = [document.text for document in read_documents(corpus, "domain", "train")]
    extend_tokenizer(inputs["model"].path("model"), train, tmp_path / "expected", tokens=30)
    made, expected = (
        folder / "tokenizer.json" for folder in (tmp_path / "output/model", tmp_path / "expected")
    )
    assert made.read_bytes() == expected.read_bytes()


def test_general_text_is_optional(tiny_model: Path, tmp_path: Path) -> None:
    base = model_artifact("base", tiny_model, tmp_path)
    inputs = {"model": base, "corpus": make_corpus(base, tmp_path / "corpus", general=False)}
    metrics = run_stage(STAGE, CONFIG, inputs, tmp_path / "run")
    assert "general_bytes_per_token_after" not in metrics


def test_every_setting_counts(inputs, tmp_path: Path) -> None:
    more = run_stage(STAGE, {"extend": {"tokens": 35}, "pad_to_multiple_of": 1}, inputs, tmp_path / "a")
    assert (more["added"], more["rows"]) == (35, more["before"] + 35)
    with pytest.raises(StageFailed, match=r"yields .*\d+ new tokens, 30 were asked for"):
        run_stage(STAGE, {"extend": {"tokens": 30, "min_frequency": 100_000}}, inputs, tmp_path / "b")
    phrases = run_stage(STAGE, {"extend": {"tokens": 60, "ngrams": 2}}, inputs, tmp_path / "c")
    assert any(" " in token.strip() for token in phrases["longest_tokens"])


def test_a_method_takes_its_parameters_from_beside_its_name(inputs, tmp_path: Path) -> None:
    embeddings = {"method": "random", "std": 3.0}
    run_stage(STAGE, CONFIG | {"embeddings": embeddings}, inputs, tmp_path / "a")
    run_stage(STAGE, CONFIG | {"embeddings": {"method": "subtoken-mean"}}, inputs, tmp_path / "b")
    wild, calm = (new_rows(tmp_path / name / "output/model") for name in ("a", "b"))
    assert wild.std() > 20 * calm.std()


def new_rows(folder: Path) -> torch.Tensor:
    """The thirty rows after the three hundred old ones."""
    weight: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    return weight[300:330].detach()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"embeddings": {"method": "guess"}}, "choose one of: .*subtoken-mean"),
        ({"embeddings": {"method": "random", "sdt": 1.0}}, "random has no parameter sdt"),
        ({"embeddings": {"method": "random", "std": -1}}, "std: "),
        ({"train": {"tokens": 400}}, "extend and train exclude each other"),
        ({"extend": None}, "give one of: prune, extend, replace, train, transliterate"),
        ({"extend": None, "train": {"tokens": 400}, "prune": {"tokens": 1}}, "prune goes with extend"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config.model_validate(CONFIG | config)


def test_tokens_go_before_others_come(inputs, tmp_path: Path) -> None:
    metrics = run_stage(STAGE, CONFIG | {"prune": {"tokens": 10}}, inputs, tmp_path)
    assert (metrics["removed"], metrics["added"]) == (10, 30)
    assert metrics["after"] == metrics["before"] + 20
    assert metrics["copied_rows"] == metrics["before"] - 10
    alone = run_stage(STAGE, {"prune": {"tokens": 10}}, inputs, tmp_path / "alone")
    assert alone["after"] == alone["before"] - 10
    assert alone["new_rows"] == 0


def test_new_tokens_are_named_and_stay_so_through_further_changes(inputs, tmp_path: Path) -> None:
    run_stage(STAGE, CONFIG, inputs, tmp_path / "a")
    first = tmp_path / "a" / "output"
    assert read_new_tokens(first / "model") == tuple(range(300, 330))
    changed = {
        "model": model_artifact("first", first / "model", tmp_path / "artifacts"),
        "corpus": Artifact(
            name="first", stage="vocabulary", kinds=("corpus",), fingerprint="first", folder=first
        ),
    }
    run_stage(STAGE, {"prune": {"tokens": 10}, "extend": {"tokens": 5}}, changed, tmp_path / "b")
    second = tmp_path / "b/output/model"
    ids = {folder: AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (first / "model", second)}
    base = AutoTokenizer.from_pretrained(inputs["model"].path("model")).get_vocab()
    new = {token for token in ids[second] if token not in base}
    assert {token for token, number in ids[second].items() if number in read_new_tokens(second)} == new
    assert len(new) > 5


def test_another_tokenizer_brings_its_own_marks(inputs, tmp_path: Path) -> None:
    other = other_tokenizer(tmp_path / "other")
    config = STAGE.Config.model_validate({"replace": {"tokenizer": str(other)}})
    assert STAGE.references(config) == [str(other)]
    metrics = run_stage(STAGE, {"replace": {"tokenizer": str(other)}}, inputs, tmp_path / "run")
    folder = tmp_path / "run/output/model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(other).get_vocab()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (tokenizer.bos_token_id, 4)
    assert metrics["copied_rows"] > 256
    index = read_index(tmp_path / "run/output/corpus")
    assert (index.start_token, index.end_token) == ("<begin>", "<end>")


def other_tokenizer(folder: Path) -> Path:
    """The tiny tokenizer with special tokens of other names at other places."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<x>", "<y>", "<z>", "<begin>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(clinical_texts(), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<begin>", eos_token="<end>"
    ).save_pretrained(folder)
    return folder


def test_a_tokenizer_trained_anew(inputs, tmp_path: Path) -> None:
    metrics = run_stage(STAGE, {"train": {"tokens": 400}}, inputs, tmp_path)
    assert metrics["after"] == 400
    assert metrics["bytes_per_token_after"] > metrics["bytes_per_token_before"]


def test_a_methods_defaults_belong_to_the_fingerprint() -> None:
    def settings(embeddings: dict) -> dict:
        return config_data(STAGE.Config.model_validate(CONFIG | {"embeddings": embeddings}))

    assert settings({"method": "omp"})["embeddings"]["k"] == 64
    assert settings({"method": "omp"}) == settings({"method": "omp", "k": 64})
    assert settings({"method": "omp"}) != settings({"method": "omp", "k": 63})


def test_a_tokenizer_that_cannot_spell_the_text_is_refused(inputs, tmp_path: Path) -> None:
    other = tmp_path / "letters"
    model = cyrillic_model(other, ["сердце", "почка", "ночь"])
    with pytest.raises(StageFailed, match=r"cannot spell \d+\.\d% of the text's characters"):
        run_stage(STAGE, {"replace": {"tokenizer": str(model)}}, inputs, tmp_path / "run")


def test_a_corpus_in_other_tokens_is_found_before_the_run(inputs, another_model) -> None:
    other = another_model("other", vocabulary=290)
    artifacts = other.parent / "artifacts"
    [problem] = STAGE.check(
        STAGE.Config.model_validate(CONFIG), inputs | {"model": model_artifact("other", other, artifacts)}
    )
    assert problem.key == "from"


def test_files_that_a_method_reads_belong_to_the_fingerprint() -> None:
    config = {"method": "clp", "donor": "helpers/small"}
    assert STAGE.references(STAGE.Config.model_validate(CONFIG | {"embeddings": config})) == ["helpers/small"]


def test_a_tokenizer_that_cannot_be_extended_is_found_before_the_run(
    inputs, tiny_model: Path, tmp_path: Path
) -> None:
    config = STAGE.Config.model_validate(CONFIG)
    assert STAGE.check(config, {}) == []
    assert STAGE.check(config, inputs) == []
    data = json.loads((tiny_model / "tokenizer.json").read_text())
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**data, "model": model}))
    [problem] = STAGE.check(config, {"model": model_artifact("other", tmp_path, tmp_path / "artifacts")})
    assert problem.key == "extend"
    assert "WordLevel" in problem.message


def test_a_hypernetwork_of_another_model_is_found_before_the_run(
    inputs, tiny_model: Path, another_model, tmp_path: Path
) -> None:
    write_hypernetwork(tmp_path / "fits", tiny_model)
    write_hypernetwork(tmp_path / "other", another_model("other", seed=1))

    def config(folder: str) -> dict:
        return CONFIG | {"embeddings": {"method": "hypernetwork", "folder": str(tmp_path / folder)}}

    assert STAGE.check(STAGE.Config.model_validate(config("fits")), inputs) == []
    [problem] = STAGE.check(STAGE.Config.model_validate(config("other")), inputs)
    assert problem.key == "embeddings"
    assert "its embeddings have other values" in problem.message
    metrics = run_stage(STAGE, config("fits"), inputs, tmp_path / "run")
    assert metrics["initialisation"]["predicted"] == 30
    with pytest.raises(DataError, match="its embeddings have other values"):
        run_stage(STAGE, config("other"), inputs, tmp_path / "refused")


def test_without_a_folder_an_earlier_stage_gives_the_hypernetwork_and_its_model(
    inputs, tiny_model: Path, tmp_path: Path
) -> None:
    """The rows are those of the same hypernetwork as a folder, also for a variant of its model."""
    config = STAGE.Config.model_validate(CONFIG | {"embeddings": {"method": "hypernetwork"}})
    base = UpstreamArtifact("base", frozenset({"model"}))
    corpus = UpstreamArtifact("corpus", frozenset({"corpus"}), {"model": "base"})
    network = UpstreamArtifact("zett", frozenset({"hypernetwork"}), {"model": "base", "corpus": "corpus"})
    trained = UpstreamArtifact("learn", frozenset({"model"}), {"model": "base", "corpus": "corpus"})
    with pytest.raises(WiringError) as caught:
        STAGE.wire(config, [base, corpus])
    assert caught.value.problem.key == "embeddings"
    assert STAGE.wire(config, [base, corpus, network]) == {
        **{"model": "base", "corpus": "corpus", "hypernetwork": "zett"}
    }
    wired = STAGE.wire(config, [base, corpus, network, trained])
    assert (wired["model"], wired["hypernetwork_model"]) == ("learn", "base")
    given = {"method": "hypernetwork", "folder": "DIR"}
    assert "hypernetwork" not in STAGE.wire(
        STAGE.Config.model_validate(CONFIG | {"embeddings": given}), [base, corpus, network]
    )

    write_hypernetwork(tmp_path / "made" / "hypernetwork", tiny_model)
    variant = model_artifact("variant", trained_a_little(tiny_model, tmp_path / "v"), tmp_path / "artifacts")
    made = {"hypernetwork": artifact("zett", tmp_path / "made", "hypernetwork")}
    changed = {**inputs, **made, "model": variant}
    [problem] = STAGE.check(config, changed)
    assert "its embeddings have other values" in problem.message
    changed["hypernetwork_model"] = inputs["model"]
    assert STAGE.check(config, changed) == []
    run_stage(STAGE, config.model_dump(by_alias=True), changed, tmp_path / "a")
    given |= {"folder": str(tmp_path / "made" / "hypernetwork"), "base": str(tiny_model)}
    run_stage(STAGE, CONFIG | {"embeddings": given}, {**inputs, "model": variant}, tmp_path / "b")
    weights = [tmp_path / name / "output" / "model" / "model.safetensors" for name in "ab"]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def trained_a_little(model: Path, folder: Path) -> Path:
    """The model with slightly other rows."""
    changed = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        changed.get_input_embeddings().weight.mul_(1.01)
    changed.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def test_latin_spellings_are_added_for_other_scripts(inputs, tmp_path: Path) -> None:
    model = cyrillic_model(tmp_path / "cyrillic")
    changed = inputs | {"model": model_artifact("cyrillic", model, tmp_path / "artifacts")}
    metrics = run_stage(STAGE, {"transliterate": {}}, changed, tmp_path / "a")
    assert metrics["added"] > 1
    assert metrics["new_rows"] == metrics["added"]
    fewer = run_stage(STAGE, {"transliterate": {"tokens": 1}}, changed, tmp_path / "b")
    assert fewer["added"] <= 1
    assert STAGE.check(STAGE.Config.model_validate({"transliterate": {}}), {}) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"method": "transmi", "merge": "min", "language": "rus"}),
        ({"embeddings": {"method": "transmi", "merge": "max"}}, {"method": "transmi", "merge": "max"}),
        ({"embeddings": {"method": "mean"}}, {"method": "mean"}),
    ],
)
def test_rows_of_latin_spellings_go_by_the_rule_of_their_scores(settings: dict, expected: dict) -> None:
    transliterate = {"transliterate": {"merge": "min", "language": "rus"}}
    chosen = STAGE.Config.model_validate(transliterate | settings).initialisation.model_dump()
    assert chosen.items() >= expected.items()


def cyrillic_model(folder: Path, texts: Sequence[str] = ()) -> Path:
    """A tiny Llama with a Unigram vocabulary of Russian and Latin letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    texts = texts or ["сердце и почка", "почка болит ночью", "сердце бьётся", *clinical_texts()[:40]]
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
