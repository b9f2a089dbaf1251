"""Where data sets come from: one file for each kind, and what they share."""
