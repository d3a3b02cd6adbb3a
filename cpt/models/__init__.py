"""Model folders and models in memory: loading, attention within documents, loss, bits per byte, sampling."""
