"""The robustness harness and the speed benchmarks."""
