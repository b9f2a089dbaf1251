"""Features: forward hooks, what is taken of an output, Gram matrices, HSIC, and the files they are kept in."""
