"""Miners: one module and one class each, named as in recipes."""
