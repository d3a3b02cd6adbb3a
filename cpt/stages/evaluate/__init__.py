"""The evaluate stage: bits per byte of held-out text and suites of benchmarks, before and after."""
