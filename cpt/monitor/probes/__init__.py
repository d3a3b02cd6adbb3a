"""Probes: what is measured again and again while a model trains.

Reading order: base (what a probe is), text, task, drift, weights, new_tokens.
"""
