"""The processes, the arithmetic and the signals that a training runs with."""
