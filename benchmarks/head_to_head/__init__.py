"""The comparison with other tools at equal time: the program and recipe of `benchmarks/head_to_head.py`."""
