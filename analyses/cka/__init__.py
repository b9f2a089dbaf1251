"""Centred kernel alignment of two networks, layer by layer."""
