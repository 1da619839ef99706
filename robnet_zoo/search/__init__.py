"""The search: an adversarially trained supernet, architectures sampled from it, and specs that come out of it."""
