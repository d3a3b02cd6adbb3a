"""Training in a fixed tokenizer: its batches, the anchored lexical loss, and the model that trains too."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import write_tiny_model
from tiny_hypernetworks import (
    SMALL,
    TEXTS,
    Meeting,
    SharedWork,
    alone,
    equal,
    small,
    training,
    untied,
    weights,
)
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from cpt.errors import StageFailed
from cpt.progress import NullProgress
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.source import SourceModel, read_source
from tokenizer_tools.hypernetwork.training.backbone import TrainedBackbone, load_backbone
from tokenizer_tools.hypernetwork.training.batches import Batch, batches_of
from tokenizer_tools.hypernetwork.training.gradients import Gradient, Gradients, anchored_loss, parameters_of
from tokenizer_tools.hypernetwork.training.loop import HypernetworkTraining
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig
from tokenizer_tools.hypernetwork.training.texts import TextStream
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

FIXED: dict[str, Any] = {"sampling": {}, "tokenizer": "other"}
TOGETHER: dict[str, Any] = {**FIXED, "backbone": {"rate": 1e-2}}
UNCLIPPED = {"clip": 1e9}


@pytest.fixture(scope="module")
def tied(tiny_model: Path) -> SourceModel:
    return read_source(tiny_model)


@pytest.fixture(scope="module", params=["tied", "untied"])
def source(request, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    if request.param == "tied":
        return read_source(tiny_model)
    return untied(tiny_model, tmp_path_factory.mktemp("untied"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 330 tokens, two of them special."""
    return write_tiny_model(tmp_path_factory.mktemp("other") / "other", vocabulary=330)


@pytest.fixture(scope="module")
def target(other: Path) -> Vocabulary:
    return read_vocabulary(other)


def batches(
    source: SourceModel, target: Vocabulary, first: int, last: int, texts: Any = TEXTS, **settings: Any
) -> list[Batch]:
    config = small(**{**FIXED, **settings})
    return list(batches_of(source.vocabulary, texts, config, 17, target).of_steps(first, last))


# Batches


def test_all_texts_are_read_in_the_fixed_tokenizer(tied: SourceModel, target: Vocabulary) -> None:
    plain = [surface for surface in target.surfaces if surface]
    stream = TextStream(TEXTS, 5 * 400, 17)
    settings = {"sequence_length": 400, "network": {**SMALL["network"], "pieces": 20}}
    for step, batch in enumerate(batches(tied, target, 0, 3, **settings)):
        texts = stream.read(3 * step, 3 * step + 3)
        ids = [target.tokenizer.encode(text).ids for text in texts]
        assert [text.tolist() for text in batch.texts] == [[each - 2 for each in text] for text in ids]
        assert batch.bytes.tolist() == list(map(len, plain))
        assert batch.vocabulary == 328
        assert batch.forms.truncated == 0
        spelt = [
            b"".join(tied.vocabulary.surfaces[piece] or b"?" for piece in ids[mask].tolist())
            for ids, mask in zip(batch.forms.ids_NL, batch.forms.mask_NL, strict=True)
        ]
        assert spelt == plain


def test_settings_bound_a_batch_in_the_fixed_tokenizer(tied: SourceModel, target: Vocabulary) -> None:
    (whole,) = batches(tied, target, 0, 1)
    (some,) = batches(tied, target, 0, 1, predicted=100)
    assert (len(whole.bytes), len(some.bytes), some.vocabulary) == (328, 100, 328)
    assert [len(text) for text in some.texts] == [len(text) for text in whole.texts]
    for one, another in zip(some.texts, whole.texts, strict=True):
        assert np.array_equal(some.forms.ids_NL[one], whole.forms.ids_NL[another])
    (short,) = batches(tied, target, 0, 1, sequence_length=5)
    assert max(map(len, short.texts)) == 5
    (cut,) = batches(tied, target, 0, 1, network={**SMALL["network"], "pieces": 1})
    assert cut.forms.truncated == 30 == int((whole.forms.mask_NL.sum(1) > 1).sum())


def test_a_batch_in_the_fixed_tokenizer_is_the_same_wherever_a_run_begins(
    tied: SourceModel, target: Vocabulary
) -> None:
    whole, later = batches(tied, target, 0, 4, predicted=90), batches(tied, target, 2, 4, predicted=90)
    for one, another in zip(whole[2:], later, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.texts, another.texts, strict=True))
        assert torch.equal(one.forms.ids_NL, another.forms.ids_NL)
    assert not np.array_equal(whole[0].texts[0], whole[1].texts[0])


def test_tokens_that_stand_for_no_text_are_left_out(tied: SourceModel, target: Vocabulary) -> None:
    """Such as those of characters that a tokenizer does not know."""
    unknown = target.tokenizer.encode(" heart").ids
    surfaces = [None if token in unknown else surface for token, surface in enumerate(target.surfaces)]
    texts = ["The heart of the heart of the matter"] * 3
    (batch,) = batches(tied, replace(target, surfaces=surfaces), 0, 1, texts=texts)
    (whole,) = batches(tied, target, 0, 1, texts=texts)
    assert len(batch.texts[0]) == len(whole.texts[0]) - 2 * len(unknown)
    assert len(batch.bytes) == len(whole.bytes) - len(unknown)


# Gradients


def changed_network(source: SourceModel, config: HypernetworkTrainingConfig, by: float = 0.2) -> Hypernetwork:
    torch.manual_seed(0)
    network = Hypernetwork(config.network, source.rows)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return network


Computed = tuple[Gradient, dict[str, torch.Tensor], dict[str, torch.Tensor]]


def prepared(
    source: SourceModel,
    target: Vocabulary,
    processes: Any,
    dtype: torch.dtype = torch.float32,
    moved: float = 0.0,
    **settings: Any,
) -> Callable[[], Computed]:
    """A gradient of both, ready to be computed; the anchor is the network before its weights moved."""
    config = small(**{**TOGETHER, **UNCLIPPED, **settings})
    network = changed_network(source, config)
    anchor = {name: weight.detach().clone() for name, weight in parameters_of(network).items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(moved * torch.ones_like(parameter))
    backbone = load_backbone(source, torch.float32)
    trained = TrainedBackbone(backbone, dtype)
    gradients = Gradients(network, backbone, config, processes, anchor, trained)
    batch = batches(source, target, 0, 1, **settings)[0]

    def compute() -> Computed:
        found = gradients.of_language_modelling(batch)
        own = {name: weight.grad for name, weight in parameters_of(network).items()}
        return found, own, {name: weight.grad for name, weight in trained.weights.items()}

    return compute


def near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=2e-6, msg=name)


def test_the_model_gets_the_gradient_of_the_whole_graph(source: SourceModel, target: Vocabulary) -> None:
    """Of all its weights but the embeddings, which predicted rows stand in for."""
    config = small(**{**TOGETHER, "lexical": 0.0})
    network, (batch,) = changed_network(source, config), batches(source, target, 0, 1)
    rows = network(batch.forms.ids_NL, batch.forms.mask_NL)
    model = AutoModelForCausalLM.from_pretrained(source.folder)
    inputs, outputs = (rows.get("tied", rows.get(role)) for role in ("input", "output"))
    total = torch.zeros(())
    for text in batch.texts:
        ids = torch.from_numpy(text)
        states = model.base_model(inputs_embeds=inputs[ids][None]).last_hidden_state[0]
        total = total + cross_entropy(states[:-1] @ outputs.T, ids[1:], reduction="sum")
    (total / batch.targets).backward()
    found, own, models = prepared(source, target, alone(), lexical=0.0)()
    assert found.loss == pytest.approx(total.item() / batch.targets, rel=1e-5)
    near(own, {n: w.grad for n, w in parameters_of(network).items() if w.grad is not None})
    expected = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    assert models.keys() == expected.keys()
    near(models, expected)
    norm = torch.stack([grad.norm() for grad in (*own.values(), *models.values())]).norm()
    assert found.norm == pytest.approx(float(norm), rel=1e-4)


def test_both_gradients_are_clipped_as_one(tied: SourceModel, target: Vocabulary) -> None:
    whole, *_ = prepared(tied, target, alone())()
    found, own, models = prepared(tied, target, alone(), clip=1e-3)()
    norm = torch.stack([grad.norm() for grad in (*own.values(), *models.values())]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    assert found.norm == pytest.approx(whole.norm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"predicted": 90}, {"shared": "copied"}], ids=str)
def test_the_anchored_loss_is_exactly_zero_at_the_start(
    source: SourceModel, target: Vocabulary, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    found, own, _ = prepared(source, target, alone(), dtype, **settings)()
    assert found.figures["lexical"] == 0.0
    _, without, _ = prepared(source, target, alone(), dtype, lexical=0.0, **settings)()
    assert all(torch.equal(own[name], without[name]) for name in own)


def test_the_anchored_loss_is_the_distance_from_the_first_predictions(
    source: SourceModel, target: Vocabulary
) -> None:
    config = small(**TOGETHER)
    before, now = (changed_network(source, config) for _ in range(2))
    with torch.no_grad():
        for parameter in now.parameters():
            parameter.add_(0.01)
    (batch,) = batches(source, target, 0, 1)
    anchors, rows = (network(batch.forms.ids_NL, batch.forms.mask_NL) for network in (before, now))
    parts = []
    for role, made in rows.items():
        distances = [((row - was) ** 2).sum() for row, was in zip(made, anchors[role].detach(), strict=True)]
        norms = [was.norm() for was in anchors[role].detach()]
        parts.append(sum(distances) / len(distances) / (sum(norms) / len(norms)))
    expected = sum(parts) / len(parts)
    found, with_it, models = prepared(source, target, alone(), moved=0.01, lexical=3.0)()
    _, without, same = prepared(source, target, alone(), moved=0.01, lexical=0.0)()
    assert found.figures["lexical"] == pytest.approx(expected.item(), rel=1e-4)
    (3 * expected).backward()
    added = {name: with_it[name] - without[name] for name in with_it}
    near(added, {n: w.grad for n, w in parameters_of(now).items() if w.grad is not None})
    near(models, same)


def test_no_rows_have_no_anchored_loss() -> None:
    rows = {"tied": torch.zeros(0, 4, requires_grad=True)}
    assert anchored_loss(rows, {"tied": torch.zeros(0, 4)}, alone()).item() == 0


def test_several_processes_have_the_gradient_of_both_of_one(tied: SourceModel, target: Vocabulary) -> None:
    alone_found, own, models = prepared(tied, target, alone(), moved=0.01)()
    meeting = Meeting(2)
    works = [prepared(tied, target, SharedWork(meeting, rank), moved=0.01) for rank in range(2)]
    with ThreadPoolExecutor(2) as threads:
        results = [each.result() for each in [threads.submit(work) for work in works]]
    for found, own_too, models_too in results:
        assert found.norm == pytest.approx(alone_found.norm, rel=1e-4)
        assert found.figures == pytest.approx(alone_found.figures, rel=1e-4)
        near(own_too, own)
        near(models_too, models)


def test_a_tokenizer_whose_tokens_are_all_copied_trains_the_model_alone(
    tied: SourceModel, tmp_path: Path
) -> None:
    config = small(**TOGETHER, shared="copied", steps=2)
    run = training(tied, tmp_path, config, target=tied.folder)
    before = weights(run)
    run.run()
    assert moved(run, tied)
    changed = [name for name, weight in weights(run).items() if not torch.equal(weight, before[name])]
    assert all(before[name].ndim > 1 for name in changed), "weight decay alone"


# Runs


class Killed(Exception):
    pass


class Killer(NullProgress):
    """Ends a run after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        if done == self.step:
            raise Killed


def model_weights(run: HypernetworkTraining) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in run._backbone.model.state_dict().items()}


def moved(run: HypernetworkTraining, source: SourceModel) -> list[str]:
    """Names of the model's weights that are others than the source's."""
    before = AutoModelForCausalLM.from_pretrained(source.folder).state_dict()
    return [
        name
        for name, weight in run.trained_model().state_dict().items()
        if not torch.equal(weight, before[name])
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_killed_run_ends_with_the_weights_of_both(
    tied: SourceModel, other: Path, tmp_path: Path, precision: str, step: int
) -> None:
    config = small(**{**TOGETHER, "precision": precision, "checkpoint": {"every": 2}})
    whole = training(tied, tmp_path / "whole", config, target=other)
    whole.run()
    with pytest.raises(Killed):
        training(tied, tmp_path / "run", config, target=other, progress=Killer(step)).run()
    again = training(tied, tmp_path / "run", config, target=other)
    again.run()
    assert equal(weights(again), weights(whole))
    assert equal(model_weights(again), model_weights(whole))
    folders = [tmp_path / name / "step-000000006" for name in ("whole", "run")]
    for name in ("weights", "model", "optimizer", "anchor"):
        one, another = ((folder / f"{name}.safetensors").read_bytes() for folder in folders)
        assert one == another, name


def test_a_run_that_goes_on_is_kept_near_its_first_predictions(
    tied: SourceModel, other: Path, tmp_path: Path
) -> None:
    """The anchor is in the checkpoint, so that other weights to begin with change nothing."""
    config = small(**TOGETHER)
    first = weights(training(tied, tmp_path / "w", config, target=other, seed=4))
    whole = training(tied, tmp_path / "whole", config, target=other, initial=first)
    whole.run()
    short = small(**TOGETHER, checkpoint={"every": 2})
    with pytest.raises(Killed):
        training(tied, tmp_path / "run", short, target=other, initial=first, progress=Killer(3)).run()
    again = training(tied, tmp_path / "run", short, target=other)
    again.run()
    assert equal(weights(again), weights(whole))


def test_the_run_begins_with_the_weights_that_are_given(
    tied: SourceModel, other: Path, tmp_path: Path
) -> None:
    network = {name: weight + 0.1 for name, weight in weights(training(tied, tmp_path, small())).items()}
    run = training(tied, tmp_path / "run", small(**FIXED), target=other, initial=network)
    assert equal(weights(run), network)


def test_at_rate_zero_the_model_stays_and_the_network_trains_as_if_it_were_frozen(
    tied: SourceModel, other: Path, tmp_path: Path
) -> None:
    runs = []
    for name, settings in (("frozen", FIXED), ("zero", {**FIXED, "backbone": {"rate": 0}})):
        runs.append(training(tied, tmp_path / name, small(**settings, **UNCLIPPED), target=other))
        runs[-1].run()
    assert moved(runs[1], tied) == []
    assert equal(weights(runs[0]), weights(runs[1]))
    with pytest.raises(ValueError, match="does not train"):
        runs[0].trained_model()


def test_each_setting_changes_what_is_trained(tied: SourceModel, other: Path, tmp_path: Path) -> None:
    results: dict[str, Any] = {}
    for name, settings, to in (
        ("sampled", {}, None),
        ("fixed", FIXED, other),
        ("far", {**FIXED, "lexical": 0.0}, other),
        ("copied", {**FIXED, "shared": "copied"}, other),
        ("slow", {**FIXED, "backbone": {"rate": 1e-3}}, other),
        ("fast", TOGETHER, other),
    ):
        run = training(tied, tmp_path / name, small(**settings, steps=3), target=to)
        run.run()
        results[name] = weights(run), model_weights(run)
    for one in results:
        for another in results:
            assert one == another or not equal(results[one][0], results[another][0]), (one, another)
    assert equal(results["sampled"][1], results["fixed"][1])
    assert not equal(results["fast"][1], results["slow"][1])
    names = [name for name in results["fast"][1] if "embed" not in name and "lm_head" not in name]
    change = {
        rate: sum(float((results[rate][1][name] - results["fixed"][1][name]).norm()) for name in names)
        for rate in ("slow", "fast")
    }
    assert change["fast"] / change["slow"] == pytest.approx(10, rel=0.2)
    embedding = "model.embed_tokens.weight"
    assert torch.equal(results["fast"][1][embedding], results["fixed"][1][embedding])


def test_both_train_to_a_lower_loss_than_the_network_alone(
    tied: SourceModel, other: Path, tmp_path: Path
) -> None:
    found = {}
    probes = {"every": 100, "tokenizers": {"other": str(other)}}
    for name, settings in (("alone", FIXED), ("together", TOGETHER)):
        config = small(
            **{**settings, **UNCLIPPED, "steps": 25, "probes": probes, "checkpoint": {"every": 1_000}}
        )
        run = training(tied, tmp_path / name, config, target=other, tokenizers={"other": other})
        run.run()
        values = [each["value"] for each in run.state.readings if each["probe"] == "other/domain"]
        assert values[-1] < values[0]
        found[name] = values[-1]
    assert found["together"] < found["alone"] - 0.02


def test_a_run_goes_on_only_with_its_tokenizer_and_rate(
    tied: SourceModel, other: Path, tmp_path: Path
) -> None:
    training(tied, tmp_path, small(**TOGETHER, steps=2), target=other).run()
    for change, named in (
        ({"tokenizer": "third"}, "tokenizer was other and is third"),
        ({"backbone": {"rate": 1e-4}}, "backbone.rate was 0.01 and is 0.0001"),
    ):
        with pytest.raises(StageFailed, match=named):
            training(tied, tmp_path, small(**{**TOGETHER, **change}), target=other).run()
