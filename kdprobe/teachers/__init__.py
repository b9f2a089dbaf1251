"""Frozen networks that teach."""
