"""Sweeps: many trainings as cells of a grid, on one machine or on a cluster, with nothing lost when something dies.

`cells` names what is trained, `ledger` and `attempts` know the state of each cell, `work` trains one, the engines
(`local`, `ray`, `slurm`) bring cells to processors, and `driver` keeps an engine busy until nothing is left.
"""
