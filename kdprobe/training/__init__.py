"""Training: one loop that can be read from top to bottom, and what it needs."""
