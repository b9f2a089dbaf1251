"""The commands of the analyses; torch and the rest are imported when a command runs."""
