"""Watching a model while it learns: probes in bits per byte, and the figures of the stability gap."""
