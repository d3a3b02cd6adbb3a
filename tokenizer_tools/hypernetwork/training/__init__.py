"""Train a hypernetwork: a frozen model reads text in sampled tokenizers, by rows that the network predicts.

`settings.py` says how, `loop.py` is the loop, `batches.py` what a step reads, `gradients.py` the two kinds of
step, `backbone.py` the frozen model, `zero_shot.py` the probes of real tokenizers.
"""
