"""A causal language model for packed documents: loading, precision, and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cpt.errors import ModelError, StageFailed
from cpt.models import attention
from cpt.models.batch import PackedBatch, TreeBatch, pack
from cpt.models.loading import check_model, load_whole, model_class, settings
from cpt.models.loss import score_labels, summed_cross_entropy, token_cross_entropy

Precision = Literal["auto", "bf16", "fp32", "fp8"]


def resolve_precision(precision: Precision, bfloat16: bool | None = None) -> torch.dtype:
    """Return the data type of activations: by default bfloat16 if the hardware multiplies it.

    Args:
        bfloat16: whether it does; None to ask this machine's.
    """
    if precision == "fp32":
        return torch.float32
    if precision in ("bf16", "fp8") or (has_fast_bfloat16() if bfloat16 is None else bfloat16):
        return torch.bfloat16
    return torch.float32


def has_fast_bfloat16() -> bool:
    """Return True if this machine multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capability = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512") and bool(torch.cpu._is_avx512_bf16_supported())


def best_device() -> torch.device:
    """Return the device on which models are read: the GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(
    folder: Path, dtype: torch.dtype = torch.float32, attention_implementation: str = attention.NAME
) -> Any:
    """Load a Hugging Face causal language model in evaluation mode, with attention within documents.

    Args:
        folder: model folder with safetensors weights.
        dtype: data type of the weights.
        attention_implementation: "sdpa" for users that pad instead of packing (lm-eval, generation).

    Raises:
        ModelError: the folder is damaged, its weights are not all of this model's, or they or the answers
            are not finite.
        StageFailed: the model is of a kind that cannot be used here.
    """
    from transformers import AutoModelForCausalLM

    attention.register()
    check_model(folder)
    with explained(folder):
        model = load_whole(
            AutoModelForCausalLM,
            folder,
            folder,
            complete=model_class(folder, settings(folder)),
            dtype=dtype,
            attn_implementation=attention_implementation,
            use_safetensors=True,
            trust_remote_code=False,
        )
    require_language_model(model, folder)
    model.eval()
    if attention_implementation == attention.NAME:
        _check_faithful(model, folder)
    return model


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an error of a class that does not take the model of a sound folder into one that names the folder.

    Raises:
        StageFailed: The block raised another error than for a damaged folder or for lack of memory.
    """
    try:
        yield
    except (ModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise StageFailed(f"the model in {folder} does not load: {type(error).__name__}: {error}") from error


def require_language_model(model: Any, folder: Path) -> None:
    """Raise unless a model predicts each token from those before it.

    Raises:
        StageFailed: it does not.
    """
    if getattr(model.config, "is_encoder_decoder", False) or model.get_output_embeddings() is None:
        raise StageFailed(f"{folder} holds no causal language model ({model.config.architectures})")


def empty_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Return a model of a folder's configuration, as `load_model` does, with weights still to be set.

    Args:
        folder: has config.json; weights are not needed.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    attention.register()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=attention.NAME, trust_remote_code=False
    )
    return model.eval()


def require_finite(model: Any, answers: torch.Tensor, folder: Path) -> None:
    """Raise if a model's answers are not finite numbers; name the weights that are not, if there are any.

    Raises:
        ModelError: they are not.
    """
    if not are_finite(answers):
        raise not_finite([n for n, tensor in model.named_parameters() if not tensor.isfinite().all()], folder)


def are_finite(answers: torch.Tensor) -> bool:
    """Return True if logits are finite numbers; -inf masks what is never to be said."""
    return not answers.isnan().any() and not answers.isposinf().any()


def not_finite(wrong: Sequence[str], folder: Path) -> ModelError:
    """Return the error for a model whose answers are not finite; `wrong` names weights that are not."""
    if wrong:
        more = f" and {len(wrong) - 1:,} more tensors" if len(wrong) > 1 else ""
        return ModelError(
            f"the model in {folder} has weights that are no finite numbers: {wrong[0]}{more}",
            hint="Take an earlier copy: what trained or merged it left its weights unusable.",
        )
    return ModelError(
        f"the answers of the model in {folder} are no finite numbers, though all its weights are",
        hint="Its weights are too large for their data type: try --precision fp32, or an earlier copy.",
    )


@torch.no_grad()
def sample_answers(model: Any) -> torch.Tensor:
    """Return the logits of a few tokens under a model that attends as transformers does."""
    logits: torch.Tensor = model(input_ids=_sample_ids(model).to(model.device)[None], use_cache=False).logits
    return logits


def _sample_ids(model: Any) -> torch.Tensor:
    return torch.arange(1, 49) * 7919 % model.config.get_text_config().vocab_size


@torch.no_grad()
def _check_faithful(model: Any, folder: Path) -> None:
    module = PackedLanguageModel(model)
    packed, alone = packed_and_alone(module)
    require_finite(model, alone, folder)
    require_faithful(packed, alone, model, model.dtype)


def packed_and_alone(module: PackedLanguageModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses [T] of two packed documents, and those that the model itself gives each alone.

    The second are what `require_finite` looks at: whatever is wrong with the weights shows there as well.
    """
    ids, model = _sample_ids(module.model), module.model
    documents = [ids[:16], ids[16:]]
    packed = module.per_token_loss(pack([document.numpy() for document in documents]).to(model.device))
    on_device = [document.to(model.device) for document in documents]
    model.set_attn_implementation("eager")
    alone = [cross_entropy(module.all_logits(d).float()[:-1], d[1:], reduction="none") for d in on_device]
    model.set_attn_implementation(attention.NAME)
    return packed, torch.cat([nats for each in alone for nats in (each, each.new_zeros(1))])


def require_faithful(packed: torch.Tensor, alone: torch.Tensor, model: Any, dtype: torch.dtype) -> None:
    """Raise unless two packed documents have the losses that the model itself gives each alone.

    Some architectures do more than backbone, head and plain causal attention (scaled or capped logits,
    position biases, chunked masks): packed, they would train on a wrong loss without a word.

    Args:
        packed, alone: see `packed_and_alone`.
        model: the model, for its name.
        dtype: data type in which it computes.

    Raises:
        StageFailed: the losses differ.
    """
    difference = float((packed - alone).abs().mean())
    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    if not difference <= tolerance * (1 + float(alone.mean()) / 10):
        raise StageFailed(
            f"{type(model).__name__} cannot read packed documents: its loss is {difference:.3g} nats off",
            hint="It does more than plain attention and a linear head; such a model is not supported yet.",
        )


class Readers(Protocol):
    """Processes that share the reading of a text.

    Attributes:
        rank, count: Rank of this process, and number of processes.
    """

    rank: int
    count: int

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""


class PackedLanguageModel(nn.Module):
    """A language model as a function from a packed batch to its loss.

    Attributes:
        readers: Processes that have the same model, and read held-out text together; None: this one alone.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.readers: Readers | None = None

    def forward(self, batch: PackedBatch, of_states: Callable[..., Any] | None = None) -> Any:
        """Return the summed cross entropy in nats over the batch's targets, by their weights.

        Args:
            batch: Batch to read.
            of_states: Function of the results of `states`, to return its value instead. Sharded weights are
                whole while it runs, and in its backward pass.
        """
        states = self.states(batch)
        if of_states is not None:
            return of_states(*states)
        return summed_cross_entropy(*states, batch.labels[batch.target_positions], batch.weights)

    def states(self, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return last hidden states [N, E] of positions with a label, and the head [V, E]."""
        return self._hidden(batch).index_select(0, batch.target_positions), self._head()

    @torch.no_grad()
    def embeddings(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the input and the output embedding [V, E], whole and in working precision."""
        return self.model.get_input_embeddings().weight, self._head()

    @torch.no_grad()
    def all_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits [T, V] of every position of one document [T], as the model computes them."""
        logits: torch.Tensor = self.model(input_ids=ids[None], use_cache=False).logits[0]
        return logits

    @torch.no_grad()
    def per_token_loss(self, batch: PackedBatch) -> torch.Tensor:
        """Return the cross entropy in nats of every position's label: [T] float32, 0 where there is none."""
        hidden_TE = self._hidden(batch)
        nats_T = torch.zeros(batch.tokens, device=hidden_TE.device)
        nats_T[batch.target_positions] = token_cross_entropy(
            hidden_TE.index_select(0, batch.target_positions),
            self._head(),
            batch.labels[batch.target_positions],
        )
        return nats_T

    @torch.no_grad()
    def probabilities(
        self, batch: PackedBatch, positions: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the probability that one of the tokens [S] follows each of the positions [N]: [N] float32.

        Args:
            positions: in ascending order.
        """
        rows = positions.repeat_interleave(len(tokens))
        nats, _ = score_labels(self._hidden(batch), self._head(), rows, tokens.repeat(len(positions)))
        return nats.exp().view(len(positions), len(tokens)).sum(1)

    @torch.no_grad()
    def score(self, batch: TreeBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ln p(label) in nats [S], and True if the label is the likeliest token [S]."""
        return score_labels(self._hidden(batch), self._head(), batch.nodes, batch.labels)

    @torch.no_grad()
    def node_states(self, batch: TreeBatch) -> torch.Tensor:
        """Return the last hidden states of the batch's nodes: [S, E]."""
        return self._hidden(batch).index_select(0, batch.nodes)

    @torch.no_grad()
    def logits(self, hidden_NE: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, V] of last hidden states."""
        head_VE = self._head()
        return hidden_NE.to(head_VE.dtype) @ head_VE.T

    def _head(self) -> torch.Tensor:
        head = self.model.get_output_embeddings()
        if getattr(head, "bias", None) is not None:
            raise StageFailed("output embeddings with a bias are not supported yet")
        weight: torch.Tensor = head.weight
        return weight

    def _hidden(self, batch: PackedBatch | TreeBatch) -> torch.Tensor:
        """Return the last hidden states [T, E] of the model's backbone."""
        output = self.model.base_model(
            **self._inputs(batch),
            position_ids=batch.position_ids,
            use_cache=False,
            **{attention.LAYOUT: batch.layout},
        )
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden

    def _inputs(self, batch: PackedBatch | TreeBatch) -> dict[str, torch.Tensor]:
        """Return what the backbone reads: ids, unless a subclass gives embeddings."""
        return {"input_ids": batch.input_ids}
