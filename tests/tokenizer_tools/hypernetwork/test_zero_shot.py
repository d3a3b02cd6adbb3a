"""Zero-shot probes: a model's own tokenizer gives its own figure, others that of a model with their rows."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import varied_texts
from torch import Tensor
from transformers import AutoModelForCausalLM
from vocabulary_kinds import word_piece

from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.source import SourceModel, read_source
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms
from tokenizer_tools.hypernetwork.training.backbone import load_backbone
from tokenizer_tools.hypernetwork.training.zero_shot import ZeroShotProbe, build_probes, due
from tokenizer_tools.vocabulary import read_vocabulary

TEXTS = {"domain": varied_texts(6), "general": ["A short text, and no more."]}


@pytest.fixture(scope="module")
def source(tiny_model: Path) -> SourceModel:
    return read_source(tiny_model)


def network_of(source: SourceModel, changed: bool = False) -> Hypernetwork:
    torch.manual_seed(0)
    network = Hypernetwork(HypernetworkConfig(layers=1, heads=2), source.rows)
    if changed:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def readings(
    source: SourceModel, probe: ZeroShotProbe, network: Hypernetwork, baselines: dict | None = None
) -> dict[str, float]:
    def predict(forms: SurfaceForms) -> dict[str, Tensor]:
        return predict_rows(network, forms)

    backbone = load_backbone(source, torch.float32)
    found = list(probe.read(backbone, predict, 3, 99, {} if baselines is None else baselines))
    assert backbone.rows is None
    assert all((each.step, each.tokens, each.unit) == (3, 99, "bits per byte") for each in found)
    return {each.probe: each.value for each in found}


def test_the_own_tokenizer_gives_the_models_own_figure(source: SourceModel) -> None:
    """But for its special tokens, which are not among the predicted ones and are nearly never likely."""
    own, copied = build_probes(source, {"same": source.folder}, TEXTS, 64, 7)
    network = network_of(source)
    expected, found = readings(source, own, network), readings(source, copied, network)
    assert list(expected) == ["source/domain", "source/general"]
    assert list(found) == ["same/domain", "same/general"]
    for kind in TEXTS:
        lost = expected[f"source/{kind}"] - found[f"same/{kind}"]
        assert 0 < lost < 0.02 * expected[f"source/{kind}"]


def test_another_tokenizer_reads_by_its_predicted_rows(
    source: SourceModel, another_model: Callable[..., Path]
) -> None:
    other = another_model("other", vocabulary=420)
    network = network_of(source, changed=True)
    _, probe = build_probes(source, {"other": other}, {"domain": TEXTS["domain"][:1]}, 500, 7)
    vocabulary = read_vocabulary(other)
    plain = [token_id for token_id, surface in enumerate(vocabulary.surfaces) if surface]
    pieces = source.vocabulary.segment_all([vocabulary.surfaces[i] for i in plain])
    length = max(map(len, pieces))
    ids = torch.zeros(len(plain), length, dtype=torch.int64)
    for row, found in enumerate(pieces):
        ids[row, : len(found)] = torch.tensor(found)
    mask = torch.arange(length) < torch.tensor([[len(found)] for found in pieces])
    rows = network(ids[:, :7], mask[:, :7])["tied"]
    model = AutoModelForCausalLM.from_pretrained(source.folder)
    text = TEXTS["domain"][0]
    tokens = torch.tensor([plain.index(i) for i in load_tokenizer(other).encode(text).ids])
    states = model.base_model(inputs_embeds=rows[tokens][None]).last_hidden_state[0]
    nats = torch.nn.functional.cross_entropy(states[:-1] @ rows.T, tokens[1:], reduction="sum")
    own_first = load_tokenizer(source.folder).encode(text).ids[0]
    skipped = max(len(vocabulary.surfaces[plain[int(tokens[0])]]), len(source.vocabulary.surfaces[own_first]))
    assert len(vocabulary.surfaces[plain[int(tokens[0])]]) == skipped, "both begin to score at one byte"
    expected = nats.item() / math.log(2) / (len(text.encode()) - skipped)
    assert readings(source, probe, network)["other/domain"] == pytest.approx(expected, rel=1e-4)


def test_a_reading_tells_its_change_since_the_first(source: SourceModel) -> None:
    _, probe = build_probes(source, {"same": source.folder}, TEXTS, 64, 7)
    baselines: dict = {}
    first = readings(source, probe, network_of(source), baselines)
    backbone = load_backbone(source, torch.float32)
    changed = network_of(source, changed=True)
    later = list(probe.read(backbone, lambda forms: predict_rows(changed, forms), 4, 1, baselines))
    for reading in later:
        assert reading.rise == pytest.approx(reading.value - first[reading.probe])
        assert reading.rise != 0
    assert later[0].items == 6
    assert math.isfinite(later[0].rise_error)


def test_windows_hold_the_same_bytes_for_all(source: SourceModel, another_model: Callable[..., Path]) -> None:
    other = another_model("other", vocabulary=420)
    narrow = build_probes(source, {"other": other}, TEXTS, 20, 7)
    assert len({tuple(probe.texts["domain"].bytes.tolist()) for probe in narrow}) == 1
    wide = build_probes(source, {"other": other}, TEXTS, 120, 7)
    assert len(narrow[1].texts["domain"].windows) > len(wide[1].texts["domain"].windows)


def test_a_tokenizer_that_loses_text_is_refused(source: SourceModel, tmp_path: Path) -> None:
    text = {"domain": ["the liver, and then 日本"]}
    with pytest.raises(DataError, match=r"makes the token '\[UNK\]' of held-out text"):
        build_probes(source, {"lossy": word_piece(tmp_path / "lossy")}, text, 64, 7)


def test_without_tokenizers_nothing_is_measured(source: SourceModel) -> None:
    assert build_probes(source, {}, {}, 64, 7) == []


def test_probes_are_read_at_both_ends_and_every_few_steps() -> None:
    assert [step for step in range(12) if due(step, 11, 4, [])] == [0, 4, 8, 11]
    assert not due(4, 11, 4, [{"step": 4}])
