"""Training runs of tiny models, to see what trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from tiny_training import Row, Said
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.models import attention
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.loop import train
from cpt.training.master_weights import MasterWeights
from cpt.training.schedules import Constant
from cpt.training.settings import Settings, TrainingConfig
from cpt.training.trainable import Setup, Trainable
from cpt.training.trainable.parameters import TrainableParameters

TOKENS = 40
NEW = (7, 30, 38)
OLD = [token for token in range(TOKENS) if token not in NEW]

Weights = dict[str, torch.Tensor]


def tiny(tied: bool = True, layers: int = 2, config: Any = LlamaConfig, **more: Any) -> Any:
    """A random model of forty tokens; the same one every time."""
    from transformers import AutoModelForCausalLM

    attention.register()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
    made = config(vocab_size=TOKENS, num_hidden_layers=layers, tie_word_embeddings=tied, **(sizes | more))
    model = AutoModelForCausalLM.from_config(made, attn_implementation=attention.NAME)
    return model.eval()


def llama(tied: bool = True) -> LlamaForCausalLM:
    """The same without the packed attention, for libraries that call the model by themselves."""
    model = tiny(tied)
    model.set_attn_implementation("eager")
    return model


def trainable(**settings: Any) -> Any:
    """Settings of what trains, as a recipe's."""
    return TypeAdapter(Trainable).validate_python(settings)


class Documents:
    """Random documents, the same for every run; every batch holds every token."""

    def batch(self, step: int) -> list[Row]:
        generator = np.random.default_rng(step)
        rows = []
        for _ in range(2):
            tokens = generator.permutation(TOKENS).astype(np.uint32)
            rows.append(Row(source="domain", tokens=tokens, piece_lengths=np.array([15, 25]), weights=None))
        return rows

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        return {"domain": {"sequences": 2 * steps, "tokens": 2 * TOKENS * steps, "epochs": 0.0}}


def settings_for(chosen: Any, new_tokens: Sequence[int] = NEW, **more: Any) -> Settings:
    config = TrainingConfig(
        schedule=Constant(peak=1e-2, warmup=0), checkpoint=Checkpoints(every=2), trainable=chosen
    )
    settings = Settings(config, 6, 1, torch.float32, new_tokens=new_tokens, seed=5)
    return settings.with_changes(**more)


def run(
    work: Path, chosen: Any, model: Any = None, said: Said | None = None, stream: Any = None, **settings: Any
) -> Any:
    """Train a fresh model; returns it, plain again."""
    model = model if model is not None else tiny()
    train(model, stream or Documents(), [], settings_for(chosen, **settings), work, said or Said())
    return model


def weights(model: Any) -> Weights:
    """Copies of a model's parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def changed(before: Weights, after: Weights) -> set[str]:
    """Names of the weights that differ; both models have the same."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def prepared(
    model: Any, chosen: Any, steps: int = 6, dtype: torch.dtype = torch.float32
) -> TrainableParameters:
    """What `train` makes of a model before its first step."""
    spec = chosen.apply(model, Setup(steps, NEW, seed=5))
    return TrainableParameters(spec, MasterWeights(model, dtype))


def losses(model: Any) -> torch.Tensor:
    """Losses of the first batch's tokens."""
    row = Documents().batch(0)[0]
    return PackedLanguageModel(model).per_token_loss(pack([row.tokens]))


def backward(model: Any, trained: TrainableParameters, step: int) -> None:
    """The gradient of a batch, as a step takes it."""
    trained.begin_step(step)
    for row in Documents().batch(step):
        PackedLanguageModel(model)(pack([row.tokens])).backward()
        trained.accumulate_grads()
    trained.mask_grads()
