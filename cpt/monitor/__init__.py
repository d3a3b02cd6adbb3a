"""Monitoring of a model during training: probes, gates and the figures of the stability gap."""
