"""One JSON file an architecture; the file's stem is the model's name."""
