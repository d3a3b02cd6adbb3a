"""Predictions for a pretrain stage before it runs: memory, time and cost.

Reading order: `job` (the run to estimate), `allocations` (blocks of memory over time, and their recording),
`simulate` and `sharded` (a step of the real code on fake tensors), `memory` (peak by part, and batches that
fit), `devices`, `duration` (time, by a GPU's peak or by measurement), `model` and `recipe` (from a recipe to
jobs), `stage` (all predictions of a stage).
"""
