"""Continual pretraining: the loop, its schedule, its optimizer, its checkpoints and its proofs."""
