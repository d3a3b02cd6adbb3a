"""Comparison of evaluations item by item: paired statistics, verdicts, tables, plots, leaderboard."""
