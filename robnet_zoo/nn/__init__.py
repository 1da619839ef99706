"""A genotype as torch modules: layers, network, compiler and fast forms."""
