"""Score texts that a model reads in dynamically merged tokens (arXiv 2411.18553).

Two figures are measured, both probabilities of the text's bytes, beside that of the model's own tokens:

*merged*: the scored text is merged, by the merges of the text before it, and each merged token is predicted
among the model's own tokens and all merged ones, by predicted output rows. Whoever knows the text so far
knows these merges, so the figure is the length of a code. Merges chosen from the scored text itself would be
part of what is to be coded.

*prefill*: only the context of a window is merged, by merges of its own, and the continuation is read and
predicted in the model's own tokens, among these alone.
"""
