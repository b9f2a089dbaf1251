"""Questions asked of a teacher and its students, one file each."""
