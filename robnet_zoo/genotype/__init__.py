"""The genotype: its document, operations and layers as data, passes, blueprint, counts, drawing. Imports no torch."""
