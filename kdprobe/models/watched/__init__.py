"""A forward pass of a few images, watched, from which the facts of a network are read."""
