"""The test suite; its run-time type checker takes ints where floats are asked for, as Python does."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
