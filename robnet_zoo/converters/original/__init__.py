"""Files of the original implementation: checkpoints and architecture codes."""
