"""Formats of files: JSON, YAML, CSV, and outputs that say what they are."""
