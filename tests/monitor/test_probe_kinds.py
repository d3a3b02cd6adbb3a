"""Every kind of probe against a computation by hand on the tiny model."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SENTENCES
from torch.nn.functional import cross_entropy, log_softmax

from cpt.models.bits_per_byte import score, tokenise_text
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.sampling import sample
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.probes.drift import DriftProbe, as_text
from cpt.monitor.probes.new_tokens import NewTokensProbe
from cpt.monitor.probes.task import Answers, TaskProbe
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.probes.weights import WeightsProbe, bottom_to_top
from cpt.monitor.schedule import AtSteps

NEVER = AtSteps(())


@pytest.fixture
def subject(tiny_model: Path) -> ModelView:
    model = load_model(tiny_model)
    return ModelView(PackedLanguageModel(model), dict(model.named_parameters()))


def logits(model: Any, *ids: int) -> torch.Tensor:
    """The model's own logits [len(ids), V], with plain attention."""
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    found = model(torch.tensor([ids])).logits[0].detach()
    model.set_attn_implementation(attention)
    return found


def test_a_text_is_bits_per_byte_and_a_share_of_it_its_first_documents(
    subject: ModelView, tiny_model: Path
) -> None:
    text = tokenise_text(load_tokenizer(tiny_model), SENTENCES, 64, "<s>")
    probe = TextProbe("general", text, NEVER)
    whole, half = probe.read(subject, 1.0), probe.read(subject, 0.5)
    assert whole.value == pytest.approx(score(subject.module, text).bits_per_byte)
    assert len(half.numerators) == math.ceil(len(whole.numerators) / 2)
    np.testing.assert_allclose(half.numerators, whole.numerators[: len(half.numerators)], rtol=1e-5)


def test_a_part_is_enough_for_an_error_and_no_more_than_there_is() -> None:
    assert [part(100, 0.001), part(100, 0.259), part(1, 0.5), part(100, 1.0)] == [2, 25, 1, 100]


def test_a_task_is_the_share_of_right_answers(subject: ModelView) -> None:
    probe = TaskProbe("task", 4, lambda _, count: Answers([1.0, 0.0, 1.0, 1.0][:count]), NEVER)
    assert probe.read(subject, 1.0).value == 0.75
    assert probe.read(subject, 0.5).value == 0.5


def test_a_task_may_be_read_by_the_likelihood_of_right_choices(subject: ModelView) -> None:
    """A label that is rare counts as much as the others, also where a part of the questions is read."""
    answers = [Answers([1, 0, 0, 1], [0.5, 0.2, 0.4, 0.9]), Answers([1, 1, 0, 1], [0.6, 0.2, 0.4, 0.9])]

    def probe(answers: Answers, **more: Any) -> TaskProbe:
        def grade(_: object, count: int) -> Answers:
            return Answers(answers.accuracy[:count], answers.p_gold[:count])

        return TaskProbe("task", 4, grade, NEVER, measure="p_gold", **more)

    plain = probe(answers[0]).read(subject, 1.0)
    assert plain.value == pytest.approx(0.5)
    assert plain.detail == {"accuracy": 0.5}
    assert probe(answers[0]).unit == "p_gold"
    weighted = [probe(each, weights=[2.0, 2 / 3, 2 / 3, 2 / 3]) for each in answers]
    first, later = (each.read(subject, 1.0) for each in weighted)
    assert first.value == pytest.approx((2 * 0.5 + (0.2 + 0.4 + 0.9) * 2 / 3) / 4)
    assert later.rise_over(first)[0] == pytest.approx(2 * 0.1 / 4)
    rise, _ = weighted[1].read(subject, 0.5).rise_over(first)
    assert rise == pytest.approx(2 * 0.1 / (2 + 2 / 3))
    assert TaskProbe("task", 4, weighted[0].grade, NEVER).read(subject, 1.0).detail == {
        "p_gold": pytest.approx(0.5)
    }


def test_drift_is_nothing_at_first_and_the_divergence_later(subject: ModelView) -> None:
    """Over one token the divergence is a sum over the vocabulary; the estimate must meet it in its error."""
    model = subject.module.model
    samples = sample(model, 0, (), rows=4000, length=1, seed=1)
    probe = DriftProbe(as_text(samples, 0), NEVER)
    first = probe.read(subject, 1.0)
    before = log_softmax(logits(model, 0)[0].double(), -1)
    assert probe.read(subject, 1.0).rise_over(first) == (0.0, 0.0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(
                2.0 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            )
    after = log_softmax(logits(model, 0)[0].double(), -1)
    divergence = float((before.exp() * (before - after)).sum())
    rise, error = probe.read(subject, 1.0).rise_over(first)
    assert divergence > 5 * error
    assert abs(rise - divergence) < 3.5 * error


def test_samples_are_drawn_as_the_model_says_end_where_it_ends_and_leave_it_as_it_was(
    subject: ModelView,
) -> None:
    model = subject.module.model
    attention = model.config._attn_implementation
    samples = sample(model, 0, (), rows=4000, length=1, seed=1)
    chances = logits(model, 0)[0].softmax(-1)
    likeliest = int(chances.argmax())
    drawn = np.mean([each == [likeliest] for each in samples])
    chance = float(chances[likeliest])
    assert abs(drawn - chance) < 4 * math.sqrt(chance * (1 - chance) / 4000)
    assert model.config._attn_implementation == attention
    assert sample(model, 0, (), 3, 5, seed=2) == sample(model, 0, (), 3, 5, seed=2)
    ended = sample(model, 0, range(0, 300), 3, 5, seed=2)
    assert [len(each) for each in ended] == [1, 1, 1]


def test_drift_counts_what_a_model_says_of_whole_samples(subject: ModelView) -> None:
    [ids] = sample(subject.module.model, 0, (), rows=1, length=6, seed=3)
    items = DriftProbe(as_text([ids], 0), NEVER).read(subject, 1.0)
    own = logits(subject.module.model, 0, *ids)[:-1]
    assert items.numerators[0] == pytest.approx(
        float(cross_entropy(own, torch.tensor(ids), reduction="sum")), rel=1e-4
    )
    assert items.denominators[0] == 6


def test_the_update_of_the_weights_is_by_layer(subject: ModelView, tiny_model: Path) -> None:
    model = subject.module.model
    embeddings = "model.embed_tokens.weight"
    probe = WeightsProbe(tiny_model, embeddings, embeddings, NEVER)
    start = probe.read(subject, 1.0)
    assert start.value == 0
    assert start.detail["bottom_top"] is None
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(1.02 if ".layers.0." in name else 1.01)
    found = probe.read(subject, 1.0)
    layers = {each["layer"]: each["update"] for each in found.detail["layers"]}
    assert layers == {0: pytest.approx(0.02, rel=1e-3)} | {
        layer: pytest.approx(0.01, rel=1e-3) for layer in range(1, len(layers))
    }
    assert len(layers) == model.config.num_hidden_layers
    assert found.detail["embeddings"] == found.detail["head"] == pytest.approx(0.01, rel=1e-3)
    now = dict(model.named_parameters())
    update = math.sqrt(sum(float((now[name] - before[name]).square().sum()) for name in before))
    norm = math.sqrt(sum(float(weight.square().sum()) for weight in before.values()))
    assert found.value == pytest.approx(update / norm, rel=1e-3)


def test_what_does_not_train_has_not_moved(subject: ModelView, tiny_model: Path) -> None:
    weights = {name: 1.5 * w for name, w in subject.weights.items() if ".layers.1." in name}
    embeddings = "model.embed_tokens.weight"
    found = WeightsProbe(tiny_model, embeddings, embeddings, NEVER).read(
        ModelView(subject.module, weights), 1.0
    )
    layers = [each["update"] for each in found.detail["layers"]]
    assert layers[1] == pytest.approx(0.5)
    assert layers[0] == found.detail["embeddings"] == 0


def test_bottom_and_top_are_five_layers_each_or_half_of_them() -> None:
    assert bottom_to_top([2.0] * 5 + [9.0] * 3 + [1.0] * 5) == 2.0
    assert bottom_to_top([3.0, 7.0, 1.0]) == 3.0
    assert bottom_to_top([1.0, 0.0]) is None
    assert bottom_to_top([1.0]) is None


def test_new_tokens_are_compared_with_the_old_ones(subject: ModelView) -> None:
    with torch.no_grad():
        rows = subject.module.model.get_input_embeddings().weight
        rows.copy_(torch.nn.functional.normalize(rows.normal_()))
        rows[[5, 7]] *= 0.25
    found = NewTokensProbe((5, 7), NEVER).read(subject, 1.0)
    assert found.value == pytest.approx(0.25, rel=1e-4)
    assert found.detail == {"input": pytest.approx(0.25, rel=1e-4), "output": pytest.approx(0.25, rel=1e-4)}
