"""The commands that train many networks: sweeps, and the comparison of methods that is made of them."""
