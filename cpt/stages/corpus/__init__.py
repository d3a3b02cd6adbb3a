"""The corpus stage: documents in, held-out text and packed training sequences out."""
