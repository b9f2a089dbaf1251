"""The publication's tables and figures, alone or beside measured runs."""
