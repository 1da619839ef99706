"""Outside formats <-> ours."""
