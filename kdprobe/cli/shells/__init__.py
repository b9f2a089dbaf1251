"""Completion of half-typed command lines by shells."""
