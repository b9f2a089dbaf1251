"""Numbers of things in words."""


def counted(number: int, name: str) -> str:
    """A number of things: `1 run`, `2 runs`, `2 minibatches`."""
    several = "es" if name.endswith("tch") else "s"
    return f"{number} {name}{'' if number == 1 else several}"
