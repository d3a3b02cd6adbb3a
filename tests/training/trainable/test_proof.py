"""The proof that exactly what should move does, and the table of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trains import NEW, Documents, Said, prepared, run, tiny, trainable

from cpt.errors import StageFailed
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.proofs import digest
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Constant
from cpt.training.trainable.parameters import TrainableParameters
from cpt.training.trainable.summary import table

CHOICES: list[dict[str, Any]] = [
    {"kind": "all", "embeddings_first": 0.5},
    {"kind": "layers", "layers": "0", "embeddings": "new-tokens"},
    {"kind": "lora", "rank": 2, "embeddings": "new-tokens"},
    {"kind": "expansion", "every": 1},
]
EACH = pytest.mark.parametrize("settings", CHOICES, ids=lambda settings: settings["kind"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_a_digest_sees_every_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(6, 5) * 9).to(dtype)
    before = digest(tensor)
    assert before.shape == (6,)
    assert torch.equal(before, digest(tensor.clone()))
    for place in range(30):
        changed = tensor.clone()
        bits = changed.view(-1).view(torch.uint8)
        bits[place * tensor.element_size()] ^= 1
        assert torch.equal(digest(changed) != before, torch.arange(6) == place // 5)
    swapped = tensor[:, [1, 0, 2, 3, 4]]
    assert dtype == torch.bool or not torch.equal(digest(swapped), before)


def test_digests_of_any_shape() -> None:
    assert [digest(torch.ones(shape)).shape[0] for shape in ((), (3,), (3, 2, 2), (0, 4), (2, 0))] == [
        1,
        3,
        3,
        0,
        2,
    ]
    assert not torch.equal(digest(torch.tensor([0.0])), digest(torch.tensor([-0.0])))


def test_large_tensors_are_digested_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(50, 7)
    whole = digest(tensor)
    monkeypatch.setattr("cpt.training.features.proofs._AT_ONCE", 20)
    assert torch.equal(digest(tensor), whole)


def tampered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tamper: Any, settings: dict[str, Any]) -> None:
    """A run in which something happens to the model after every step."""
    model, sync = tiny(), TrainableParameters.sync_to_model

    def sync_and_tamper(self: TrainableParameters) -> None:
        sync(self)
        with torch.no_grad():
            tamper(model, self)

    monkeypatch.setattr(TrainableParameters, "sync_to_model", sync_and_tamper)
    run(tmp_path, trainable(**settings), model)


@EACH
def test_an_honest_run_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    tampered(tmp_path, monkeypatch, lambda model, trained: None, settings)


@EACH
def test_a_buffer_that_moves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    def tamper(model: Any, trained: TrainableParameters) -> None:
        model.get_buffer("model.rotary_emb.inv_freq").add_(1)

    with pytest.raises(StageFailed, match=r"the first steps changed .* frozen tensors: .*inv_freq"):
        tampered(tmp_path, monkeypatch, tamper, settings)


def first_frozen(trained: TrainableParameters, model: Any) -> torch.Tensor:
    return next(tensor for tensor, free in trained.frozen_tensors(model).values() if len(tensor.shape) > 1)


@EACH
def test_a_frozen_weight_that_moves_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    def tamper(model: Any, trained: TrainableParameters) -> None:
        tensor = first_frozen(trained, model)
        row = next(row for row in range(len(tensor)) if row not in NEW)
        tensor[row, 0] += 1e-3

    with pytest.raises(StageFailed, match=r"the first steps changed 1 frozen tensors: "):
        tampered(tmp_path, monkeypatch, tamper, settings)


@EACH
def test_a_weight_that_does_not_train_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    original = AdamW.build

    def stuck(self: AdamW, groups: Any) -> torch.optim.Optimizer:
        optimizer = original(self, groups)
        optimizer.param_groups[0]["multiple"] = 0.0
        return optimizer

    monkeypatch.setattr(AdamW, "build", stuck)
    with pytest.raises(StageFailed, match=r"the first steps left \d+ trainable tensors unchanged: .*_proj"):
        run(tmp_path, trainable(**settings))


def norms_stuck(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Leave norms and biases out of the optimizer; returns what hears the number of each step."""
    original = AdamW.build

    def stuck(self: AdamW, groups: Any) -> torch.optim.Optimizer:
        return original(self, [group for group in groups if group.name != "norms and biases"])

    monkeypatch.setattr(AdamW, "build", stuck)
    said = Said()
    said.update = lambda done, *_, **__: said.messages.append(str(done))  # type: ignore[method-assign]
    return said


def test_the_second_phase_is_proved_when_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = norms_stuck(monkeypatch)
    with pytest.raises(StageFailed, match=r"left 5 trainable tensors unchanged: .*norm"):
        run(tmp_path, trainable(embeddings_first=0.5), said=said)
    assert said.messages[-1] == "3"  # the fourth step is the first of all weights


def test_steps_at_rate_zero_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Constant.rate

    def late(self: Constant, done: int, total: int, size: int = 1) -> float:
        return 0.0 if done < 2 else rate(self, done, total, size)

    monkeypatch.setattr(Constant, "rate", late)
    run(tmp_path, trainable())


def slowly(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Rates too small to move a norm of 1 in float32, until the last steps."""
    rate = Constant.rate

    def late(self: Constant, done: int, total: int, size: int = 1) -> float:
        return 1e-9 if done < steps else rate(self, done, total, size)

    monkeypatch.setattr(Constant, "rate", late)


@EACH
def test_a_weight_that_a_warm_up_is_too_small_to_move_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    slowly(monkeypatch, 4)
    run(tmp_path, trainable(**settings))


def test_when_the_rate_is_large_enough_it_must_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 4)
    said = norms_stuck(monkeypatch)
    with pytest.raises(StageFailed, match=r"left 5 trainable tensors unchanged: .*norm"):
        run(tmp_path, trainable(), said=said)
    assert said.messages[-1] == "4"


@pytest.mark.parametrize(
    "settings",
    [{"kind": "all", "embeddings_first": 0.5}, {"kind": "lora", "rank": 2, "embeddings": "new-tokens"}],
    ids=lambda settings: settings["kind"],
)
def test_rows_of_an_input_embedding_wait_for_their_tokens(tmp_path: Path, settings: dict[str, Any]) -> None:
    class Without(Documents):
        def batch(self, step: int) -> list[Any]:
            rows = super().batch(step)
            for row in rows:
                row.tokens[:] = row.tokens % min(NEW)
            return rows

    chosen, still = trainable(**settings), AdamW(weight_decay=0)
    model = run(tmp_path, chosen, tiny(tied=False), stream=Without(), optimizer=still)
    before, after = tiny(tied=False).get_input_embeddings().weight, model.get_input_embeddings().weight
    assert torch.equal(before[list(NEW)], after[list(NEW)])


def test_a_proof_that_a_kill_interrupts_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = trainable(kind="lora", rank=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, chosen, said=Said(die_at=2), checkpoint=Checkpoints(every=1))
    original = AdamW.build

    def stuck(self: AdamW, groups: Any) -> torch.optim.Optimizer:
        optimizer = original(self, groups)
        optimizer.param_groups[0]["multiple"] = 0.0
        return optimizer

    monkeypatch.setattr(AdamW, "build", stuck)
    with pytest.raises(StageFailed, match="trainable tensors unchanged"):
        run(tmp_path, chosen, checkpoint=Checkpoints(every=1))


def rows_of(model: Any, **settings: Any) -> dict[str, list[str]]:
    text = table(prepared(model, trainable(**settings)), model)
    lines = [line.rsplit(maxsplit=4) for line in text.splitlines() if "%" in line]
    return {name: cells for name, *cells in lines}


def test_the_table_counts_everything_once() -> None:
    model = tiny()
    parameters = sum(p.numel() for p in model.parameters())
    rows = rows_of(model, embeddings_first=0.5, rates={"new_tokens": 5})
    assert rows["new tokens"] == ["1", "48", f"{48 / parameters:.2%}", "5"]
    assert rows["embeddings"] == ["1", f"{37 * 16}", f"{37 * 16 / parameters:.2%}", "1"]
    assert rows["frozen"] == ["0", "0", "0.00%", "-"]
    counts = [int(cells[1].replace(",", "")) for cells in rows.values()]
    assert sum(counts) == parameters


def test_the_table_of_adapters() -> None:
    model = tiny()
    frozen = sum(p.numel() for p in model.parameters())
    rows = rows_of(model, kind="lora", rank=2, embeddings="new-tokens", rates={"adapters": 2})
    assert rows["frozen"][1] == f"{frozen:,}"
    assert rows["adapters"][0] == "28"
    assert rows["adapters"][3] == "2"
    assert rows["new tokens"][1] == "48"


def test_rows_of_new_tokens_in_a_frozen_matrix() -> None:
    model = tiny(tied=False)
    total = sum(p.numel() for p in model.parameters())
    rows = rows_of(model, kind="layers", layers="0", embeddings="new-tokens")
    counts = {name: int(cells[1].replace(",", "")) for name, cells in rows.items()}
    assert counts["new tokens"] == 2 * 48
    assert "embeddings" not in counts
    assert sum(counts.values()) == total


def test_the_table_is_said_before_training(tmp_path: Path) -> None:
    said = Said()
    run(tmp_path, trainable(embeddings_first=0.5), said=said)
    (text,) = said.messages
    assert text.startswith("what trains")
    assert text.endswith("in the first 3 steps only the rows of new tokens train")
