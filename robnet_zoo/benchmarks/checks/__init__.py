"""Signs that a figure may not be what it seems, in a target and in results."""
