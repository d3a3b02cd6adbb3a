"""Studies that decide settings by measurement: the programs and recipes of `benchmarks/decisions.py`."""
