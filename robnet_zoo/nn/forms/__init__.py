"""Fast forms of a network: the same function of the same parameters, arranged for speed."""
