"""The parts of a profile: what weights carry, what layers are made of, what a machine could do at the best."""
