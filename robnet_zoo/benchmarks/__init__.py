"""The robustness harness, the speed benchmarks, and their committed results."""
