"""Train a small language model from scratch on another tokenizer, as the helper of CLP-Transfer.

Source: Ostendorff and Rehm, "Efficient language model training through cross-lingual and progressive
transfer learning" (arXiv 2301.09626), whose helper is a trained small model. Ours is a tied Llama of a few
layers that learns in minutes on one core. Two things make that possible with a large vocabulary. Only tokens
that are frequent enough in the text have a row during training; the others share one. And the softmax of a
batch is over the batch's target tokens, each logit corrected by the log of the probability that the token is
among them (Yi et al., RecSys 2019), which estimates the sum of the full softmax without bias.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from cpt.errors import StageFailed
from cpt.models.packed_model import has_fast_bfloat16
from cpt.models.tokenizer import FILE, copy_settings
from tokenizer_tools.transfer import Texts
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

_LENGTH, _BATCH = 128, 16
_PEAK, _WARMUP, _CLIP = 3e-3, 0.05, 1.0
HEAD_WIDTH = 32
"""Width of an attention head of a helper."""
_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Helper:
    """Embedding rows of a helper.

    Attributes:
        matrix_VD: Rows in float32, for input and output alike; zero where `known_V` is False.
        known_V: True for tokens that are frequent enough in the training text.
    """

    matrix_VD: Tensor
    known_V: np.ndarray


def train_helper(
    vocabulary: Vocabulary | Path,
    texts: Texts,
    output: Path | None = None,
    *,
    width: int = 128,
    layers: int = 2,
    tokens: int = 2_000_000,
    min_count: int = 5,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Helper:
    """Train a helper.

    Args:
        vocabulary: Vocabulary, or tokenizer folder.
        texts: Function that starts a new pass over the text; read until it gives `tokens` tokens.
        output: Hugging Face folder for the model and its tokenizer. Unknown tokens have zero rows there.
        width: Model width D, rounded up to a multiple of 32.
        layers: Number of layers.
        tokens: Number of training tokens; a shorter text is repeated.
        min_count: a token that the text holds less often is not known.
        min_count: Lowest frequency of a token with a row of its own.
        seed: Seed of the initial weights and the order of the text.
        progress: Receiver of ten messages on steps and loss.

    Raises:
        StageFailed: The texts hold too little.
    """
    vocabulary = vocabulary if isinstance(vocabulary, Vocabulary) else read_vocabulary(vocabulary)
    sequences_SL = _sequences(vocabulary, texts(), tokens)
    counts_V = np.bincount(sequences_SL.ravel(), minlength=len(vocabulary.tokens))
    known_V = counts_V >= min_count
    if not known_V.any():
        raise StageFailed(
            f"the texts hold no token {min_count} times, so a helper learns nothing from them",
            hint="Give more text, or lower the least count.",
        )
    row_of_V = np.cumsum(known_V) * known_V
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(int(known_V.sum()) + 1, width, layers)
        _train(model, torch.from_numpy(row_of_V[sequences_SL]), tokens, progress)
    learnt_UD = model.get_input_embeddings().weight.detach()
    matrix_VD = torch.zeros(len(known_V), learnt_UD.shape[1])
    matrix_VD[torch.from_numpy(known_V)] = learnt_UD[1:]
    if output is not None:
        _save(model, matrix_VD, vocabulary, output)
    return Helper(matrix_VD, known_V)


def tokenised(tokenizer: Tokenizer, texts: Iterable[str], tokens: int) -> Iterator[np.ndarray]:
    """Yield the ids [T] of each text, `tokens` in total at most."""
    remaining, left = iter(texts), tokens
    while left > 0 and (batch := list(islice(remaining, _TEXTS_AT_ONCE))):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            ids = np.array(encoding.ids[:left], dtype=np.int32)
            left -= len(ids)
            yield ids


def in_batch_loss(states_TD: Tensor, targets_T: Tensor, rows_UD: Tensor, frequencies_U: Tensor) -> Tensor:
    """Compute the mean cross-entropy with the softmax over the batch's own targets.

    Args:
        states_TD: States of the model.
        targets_T: Rows that the states have to predict.
        rows_UD: Output embedding.
        frequencies_U: Share of each row among all targets of the text, float64.
    """
    candidates_C, places_T = targets_T.unique(return_inverse=True)
    present_C = -torch.expm1(len(targets_T) * torch.log1p(-frequencies_U[candidates_C]))
    logits_TC = (states_TD @ rows_UD[candidates_C].T).float() - present_C.log().float()
    return torch.nn.functional.cross_entropy(logits_TC, places_T)


def _sequences(vocabulary: Vocabulary, texts: Iterable[str], tokens: int) -> np.ndarray:
    """Return the concatenated texts as [S, L] ids."""
    ids = np.concatenate([np.empty(0, np.int32), *tokenised(vocabulary.tokenizer, texts, tokens)])
    length = min(_LENGTH, len(ids))
    if length < 2:
        raise StageFailed(
            "the texts hold no tokens to train a helper on", hint="Give text that the new vocabulary is for."
        )
    return ids[: len(ids) // length * length].reshape(-1, length)


def _model(rows: int, width: int, layers: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = -(-width // HEAD_WIDTH)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=heads * HEAD_WIDTH,
        intermediate_size=3 * heads * HEAD_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,  # compact rows are not the tokenizer's ids
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).train()


def _train(model: Any, sequences_SL: Tensor, tokens: int, progress: Callable[[str], None] | None) -> None:
    """Train by AdamW with a linear warm-up and a cosine down to 0."""
    rows_UD = model.get_input_embeddings().weight
    frequencies_U = torch.bincount(sequences_SL.flatten(), minlength=len(rows_UD)).double()
    frequencies_U /= sequences_SL.numel()
    steps = max(1, tokens // sequences_SL[:_BATCH].numel())
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / (_WARMUP * steps)) * (1 + cos(pi * step / steps)) / 2,
    )
    for step, batch in enumerate(islice(_batches(len(sequences_SL)), steps), start=1):
        input_BL = sequences_SL[batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            states_BLD = model.model(input_BL).last_hidden_state
            states_TD = states_BLD[:, :-1].flatten(0, 1)
            loss = in_batch_loss(states_TD, input_BL[:, 1:].flatten(), rows_UD, frequencies_U)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        if progress is not None and step * 10 // steps > (step - 1) * 10 // steps:
            progress(f"training a helper: {step:,} of {steps:,} steps, loss {loss.item():.2f}")


def _batches(count: int) -> Iterator[Tensor]:
    """Yield batches of sequence indices; each pass over all of them has its own order."""
    while True:
        yield from torch.randperm(count).split(_BATCH)


def _save(model: Any, matrix_VD: Tensor, vocabulary: Vocabulary, output: Path) -> None:
    """Write the model with the whole vocabulary's rows, and the tokenizer's files."""
    output.mkdir(parents=True, exist_ok=True)
    roles = {f"{role}_token_id": vocabulary.roles.get(role) for role in ("bos", "eos", "pad")}
    model.config.update(
        {**roles, "vocab_size": len(matrix_VD), "architectures": [type(model).__name__], "dtype": "float32"}
    )
    model.config.save_pretrained(output)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    tensors["model.embed_tokens.weight"] = matrix_VD
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    copy_settings(vocabulary.folder, output)
    shutil.copyfile(vocabulary.folder / FILE, output / FILE)
