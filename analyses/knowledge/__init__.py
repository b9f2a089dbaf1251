"""General and specific knowledge: what two networks share, and what only one of them has."""
