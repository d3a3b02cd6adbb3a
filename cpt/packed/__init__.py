"""How packed documents go through a model: batches, attention within documents, chunked cross entropy."""
