"""Plan before you pay: what a pretrain stage will take in memory, time and money, before it runs.

Reading order: `job` (what is estimated), `timeline` (blocks of memory over time), `recorder` and `simulation`
(a step of the real code on tensors without content), `memory` (from that to the peak by part), `device`,
`cost` and `calibration` (time), `fit` (which batches fit), `recipe` (from a recipe to jobs), `stage` (all).
"""
