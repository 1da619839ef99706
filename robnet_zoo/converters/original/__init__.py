"""Checkpoints and architecture codes of the original implementation."""
