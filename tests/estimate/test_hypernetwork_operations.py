"""Operations of a hypernetwork's step: the formula against counted matrix products of the real step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import clinical_texts, write_tiny_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from cpt.estimate.hypernetwork import ReadTokens, RowCounts, first_stage_flops, step_flops
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import DistributedContext
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.source import read_source
from tokenizer_tools.hypernetwork.training.backbone import TrainedBackbone, load_backbone
from tokenizer_tools.hypernetwork.training.batches import batches_of
from tokenizer_tools.hypernetwork.training.gradients import Gradients, parameters_of, predicted_places
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig
from tokenizer_tools.vocabulary import read_vocabulary

TOLERANCE = 0.02
SMALL: dict[str, Any] = {
    "network": {"layers": 2, "heads": 2},
    "sampling": {"vocabulary": 450, "queue": 16},
    "texts": 4,
    "sequence_length": 24,
    "precision": "fp32",
}
FIXED = {"tokenizer": "other", "sampling": {}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"predicted": 200, "shared": "copied"},
        {"network": {"variant": "zett", "layers": 1, "hidden": 48, "heads": 2, "feed_forward": 3}},
        FIXED,
        {**FIXED, "backbone": {}},
        {**FIXED, "backbone": {}, "lexical": 0.0},
    ],
    ids=str,
)
def test_a_step_takes_the_operations_of_its_products(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Within 2%, since norms are counted as if they were multiplied.

    In the first stage, where each token is one piece that sees only itself, queries have no backward pass.
    """
    config = HypernetworkTrainingConfig.model_validate({**SMALL, **settings})
    source, processes = read_source(tiny_model), ProcessGroup(DistributedContext())
    other = write_tiny_model(tmp_path / "other", vocabulary=420)
    target = read_vocabulary(other) if config.tokenizer else None
    (batch,) = batches_of(source.vocabulary, clinical_texts(), config, 17, target).of_steps(0, 1)
    network, backbone = Hypernetwork(config.network, source.rows), load_backbone(source, torch.float32)
    anchor = None
    if config.tokenizer and config.lexical_weight:
        anchor = {name: weight.detach().clone() for name, weight in parameters_of(network).items()}
    trained = TrainedBackbone(backbone, torch.float32) if config.backbone is not None else None
    gradients = Gradients(network, backbone, config, processes, anchor, trained)
    with FlopCounterMode(display=False) as counter:
        gradients.of_language_modelling(batch)
    chosen = batch.forms.at(predicted_places(batch.forms, source.size, copied=config.shared == "copied"))
    counts = RowCounts.of(
        chosen.mask_NL.sum(1).tolist(), len(batch.bytes), len(chosen.ids_NL[chosen.mask_NL].unique())
    )
    lengths = list(map(len, batch.texts))
    read = ReadTokens(batch.tokens, batch.targets, sum(n * n for n in lengths) / batch.tokens)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    expected = step_flops(config, source.widths, model.config, body, counts, read)
    assert expected == pytest.approx(counter.get_total_flops(), rel=TOLERANCE)
    if config.first_stage is not None:
        ids = torch.arange(2, 102)
        with FlopCounterMode(display=False) as counter:
            gradients.of_first_stage(ids)
        one = config.model_copy(update={"warm_start": config.first_stage.model_copy(update={"tokens": 100})})
        expected = first_stage_flops(one, source.widths, source.size)
        assert expected == pytest.approx(counter.get_total_flops(), rel=0.05)
