"""Run folders: what a training leaves behind, several of them side by side, and their curves."""
