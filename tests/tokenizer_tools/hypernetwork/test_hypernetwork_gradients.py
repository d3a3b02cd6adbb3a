"""Gradients: as autograd has them without the cut at the rows, and losses as a resized model has them."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_hypernetworks import TEXTS, Meeting, SharedWork, alone, small, untied
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from cpt.models.batch import pack
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.source import SourceModel, read_source
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms
from tokenizer_tools.hypernetwork.training.backbone import load_backbone
from tokenizer_tools.hypernetwork.training.batches import Batch, batches_of
from tokenizer_tools.hypernetwork.training.gradients import (
    Gradient,
    Gradients,
    distance,
    lexical_loss,
    parameters_of,
    source_ids,
)
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

UNCLIPPED = {"clip": 1e9}


@pytest.fixture(scope="module")
def tied(tiny_model: Path) -> SourceModel:
    return read_source(tiny_model)


@pytest.fixture(scope="module", params=["tied", "untied"])
def source(request, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    if request.param == "tied":
        return read_source(tiny_model)
    return untied(tiny_model, tmp_path_factory.mktemp("untied"))


def changed_network(source: SourceModel, config: HypernetworkTrainingConfig) -> Hypernetwork:
    """A network that predicts something else than copies."""
    torch.manual_seed(0)
    network = Hypernetwork(config.network, source.rows)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def batch_of(source: SourceModel, config: HypernetworkTrainingConfig) -> Batch:
    return next(batches_of(source.vocabulary, TEXTS, config, 17).of_steps(0, 1))


Computed = tuple[Gradient, dict[str, torch.Tensor]]


def prepared(source: SourceModel, processes: object, **settings: object) -> Callable[[], Computed]:
    """A gradient of language modelling, ready to be computed in any thread."""
    config = small(**{**UNCLIPPED, **settings})
    network, batch = changed_network(source, config), batch_of(source, config)
    gradients = Gradients(network, load_backbone(source, torch.float32), config, processes)

    def compute() -> Computed:
        found = gradients.of_language_modelling(batch)
        return found, {name: weight.grad for name, weight in parameters_of(network).items()}

    return compute


def computed(source: SourceModel, **settings: object) -> Computed:
    return prepared(source, alone(), **settings)()


def expected_loss(
    source: SourceModel, config: HypernetworkTrainingConfig, network: Hypernetwork, copied: bool = False
) -> tuple[torch.Tensor, Batch]:
    """The loss of the whole graph, by a transformers model whose embeddings were replaced."""
    batch = batch_of(source, config)
    rows = network(batch.forms.ids_NL, batch.forms.mask_NL)
    if copied:
        is_one = batch.forms.is_source_token(source.size)[:, None]
        ids = batch.forms.ids_NL[:, 0].clamp(max=source.size - 1)
        rows = {role: torch.where(is_one, source.rows[role][ids], made) for role, made in rows.items()}
    model = AutoModelForCausalLM.from_pretrained(source.folder)
    inputs, outputs = (rows.get("tied", rows.get(role)) for role in ("input", "output"))
    total = torch.zeros(())
    for text in batch.texts:
        ids = torch.from_numpy(text)
        states = model.base_model(inputs_embeds=inputs[ids][None]).last_hidden_state[0]
        total = total + cross_entropy(states[:-1] @ outputs.T, ids[1:], reduction="sum")
    return total / batch.targets, batch


def near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=2e-6, msg=name)


def test_loss_and_gradient_are_those_of_the_whole_graph(source: SourceModel) -> None:
    config = small()
    network = changed_network(source, config)
    loss, batch = expected_loss(source, config, network)
    loss.backward()
    found, gradients = computed(source)
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    bits = loss.item() * batch.targets / math.log(2) / batch.target_bytes
    assert found.figures["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert found.figures["bytes_per_token"] == pytest.approx(batch.target_bytes / batch.targets)
    assert found.figures["predicted"] == len(batch.bytes)
    expected = {name: weight.grad for name, weight in parameters_of(network).items()}
    near(gradients, {name: g for name, g in expected.items() if g is not None})
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    assert found.norm == pytest.approx(float(norm), rel=1e-4)


def test_copied_rows_get_no_gradient_and_are_the_sources(tied: SourceModel) -> None:
    config = small(shared="copied")
    network = changed_network(tied, config)
    loss, batch = expected_loss(tied, config, network, copied=True)
    loss.backward()
    found, gradients = computed(tied, shared="copied")
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert 0 < found.figures["predicted"] < len(batch.bytes)
    near(gradients, {n: w.grad for n, w in parameters_of(network).items() if w.grad is not None})


def test_micro_batches_change_nothing(tied: SourceModel) -> None:
    whole, gradients = computed(tied)
    parts, others = computed(tied, micro_batch=2)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    near(others, gradients)


def test_a_gradient_is_clipped(tied: SourceModel) -> None:
    _, whole = computed(tied)
    found, clipped = computed(tied, clip=1e-3)
    norm = float(torch.stack([g.norm() for g in clipped.values()]).norm())
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert found.norm == pytest.approx(
        float(torch.stack([g.norm() for g in whole.values()]).norm()), rel=1e-4
    )


def test_only_the_hypernetwork_gets_gradients(tied: SourceModel) -> None:
    config = small()
    backbone = load_backbone(tied, torch.float32)
    before = {name: weight.clone() for name, weight in backbone.named_parameters()}
    gradients = Gradients(changed_network(tied, config), backbone, config, alone())
    gradients.of_language_modelling(batch_of(tied, config))
    assert backbone.rows is None
    for name, weight in backbone.named_parameters():
        assert weight.grad is None
        assert torch.equal(weight, before[name])


def test_the_lexical_loss_is_weighted_and_pulls_source_tokens_back(source: SourceModel) -> None:
    plain, without = computed(source)
    found, with_it = computed(source, lexical=2.0)
    config = small()
    network, batch = changed_network(source, config), batch_of(source, config)
    rows = network(batch.forms.ids_NL, batch.forms.mask_NL)
    parts = []
    for role, made in rows.items():
        distances, norms = [], []
        for row, ids, mask in zip(made, batch.forms.ids_NL, batch.forms.mask_NL, strict=True):
            if mask.sum() == 1 and ids[0] < source.size:
                true = source.rows[role][ids[0]]
                distances.append(((row - true) ** 2).sum())
                norms.append(true.norm())
        parts.append(sum(distances) / len(distances) / (sum(norms) / len(norms)))
    expected = sum(parts) / len(parts)
    assert found.figures["lexical"] == pytest.approx(expected.item(), rel=1e-4)
    assert "lexical" not in plain.figures
    assert found.loss == pytest.approx(plain.loss, rel=1e-6)
    (2 * expected).backward()
    added = {name: with_it[name] - without[name] for name in with_it}
    near(added, {n: w.grad for n, w in parameters_of(network).items() if w.grad is not None})


def test_the_lexical_loss_of_copies_is_zero(tied: SourceModel) -> None:
    network = Hypernetwork(small().network, tied.rows)
    forms = batch_of(tied, small()).forms
    rows = network(forms.ids_NL, forms.mask_NL)
    assert lexical_loss(rows, network.source, forms, slice(0, len(forms.ids_NL))).item() == 0
    none = SurfaceForms(torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool), 0)
    made = network(none.ids_NL, none.mask_NL)
    assert lexical_loss(made, network.source, none, slice(0, 1)).item() == 0


def test_the_first_stage_compares_rows_with_the_true_ones(source: SourceModel) -> None:
    config = small(**UNCLIPPED)
    network = changed_network(source, config)
    gradients = Gradients(network, load_backbone(source, torch.float32), config, alone())
    ids = torch.tensor([5, 9, 30, 31])
    found = gradients.of_first_stage(ids)
    rows = network(ids[:, None], torch.ones(4, 1, dtype=torch.bool))
    parts = [((made - source.rows[role][ids]) ** 2).sum(1).mean() for role, made in rows.items()]
    expected = sum(parts) / len(parts)
    assert found.loss == pytest.approx(expected.item(), rel=1e-5)
    got = {name: weight.grad.clone() for name, weight in parameters_of(network).items()}
    network.zero_grad()
    expected.backward()
    near(got, {n: w.grad for n, w in parameters_of(network).items() if w.grad is not None})
    assert distance(rows, network.source, ids, 4).item() == pytest.approx(expected.item(), rel=1e-5)


def test_source_tokens_are_drawn_by_step_without_repeats(tied: SourceModel) -> None:
    plain = torch.arange(10, 60).numpy()
    drawn = source_ids(plain, 20, seed=1, step=3)
    assert torch.equal(drawn, source_ids(plain, 20, seed=1, step=3))
    assert not torch.equal(drawn, source_ids(plain, 20, seed=1, step=4))
    assert len(drawn.unique()) == 20
    assert set(source_ids(plain, 500, 1, 0).tolist()) == set(plain.tolist())


def together(works: list[Callable[[], Computed]]) -> list[Computed]:
    """Do work in several threads that sum their gradients."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [each.result() for each in [threads.submit(work) for work in works]]


@pytest.mark.parametrize(
    ("count", "settings"), [(2, {}), (4, {"lexical": 1.0}), (2, {"shared": "copied", "micro_batch": 1})]
)
def test_several_processes_have_the_gradient_of_one(tied: SourceModel, count: int, settings: dict) -> None:
    """Four processes have three texts: one of them has none."""
    alone_found, gradients = computed(tied, **settings)
    meeting = Meeting(count)
    works = [prepared(tied, SharedWork(meeting, rank), **settings) for rank in range(count)]
    for found, others in together(works):
        assert found.loss == pytest.approx(alone_found.loss, rel=1e-5)
        assert found.norm == pytest.approx(alone_found.norm, rel=1e-4)
        assert found.figures == pytest.approx(alone_found.figures, rel=1e-4)
        near(others, gradients)


def first_stage(source: SourceModel, processes: object, ids: torch.Tensor) -> Callable[[], Computed]:
    config = small(**UNCLIPPED)
    network = changed_network(source, config)
    gradients = Gradients(network, load_backbone(source, torch.float32), config, processes)
    return lambda: (
        gradients.of_first_stage(ids),
        {name: weight.grad for name, weight in parameters_of(network).items()},
    )


def test_several_processes_share_the_first_stage(tied: SourceModel) -> None:
    ids, meeting = torch.arange(5, 14), Meeting(2)
    alone_found, gradients = first_stage(tied, alone(), ids)()
    for found, others in together([first_stage(tied, SharedWork(meeting, rank), ids) for rank in range(2)]):
        assert found.loss == pytest.approx(alone_found.loss, rel=1e-5)
        near(others, gradients)


def test_bfloat16_is_near_float32(tied: SourceModel) -> None:
    config = small(**UNCLIPPED)
    exact, _ = computed(tied)
    network = changed_network(tied, config)
    gradients = Gradients(network, load_backbone(tied, torch.bfloat16), config, alone())
    found = gradients.of_language_modelling(batch_of(tied, config))
    assert found.loss == pytest.approx(exact.loss, rel=0.02)
    assert found.loss != exact.loss
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_given_rows_are_read_as_the_models_own(source: SourceModel) -> None:
    backbone = load_backbone(source, torch.float32)
    ids = torch.arange(2, 40).numpy()
    own = backbone(pack([ids]))
    backbone.rows = source.rows
    assert torch.allclose(backbone(pack([ids])), own)
    # other ids in another order: rows go with their tokens
    order = torch.randperm(source.size, generator=torch.Generator().manual_seed(1))
    backbone.rows = {role: rows[order] for role, rows in source.rows.items()}
    assert torch.allclose(backbone(pack([order.argsort()[ids].numpy()])), own)
