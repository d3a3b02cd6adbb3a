"""Plain Hugging Face model folders, read and rewritten tensor by tensor without loading the model."""
