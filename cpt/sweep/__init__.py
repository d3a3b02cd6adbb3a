"""Sweep settings of a recipe: choose configurations, run each as a normal run, say which one to take.

`factors` parses and proposes configurations, `run` runs them, `effects` computes the statistics, `result`
joins both into the facts of the page.
"""
