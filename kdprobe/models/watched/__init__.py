"""A watched forward pass of a few images, from which the facts of a network are read."""
