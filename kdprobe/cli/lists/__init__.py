"""`kdprobe list`: one file for each thing that is listed, and the group that they join."""
