"""Evaluate models: multiple-choice tasks through lm-eval, and what paired scores say."""
