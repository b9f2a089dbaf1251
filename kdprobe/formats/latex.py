"""Text in LaTeX."""

_WORDS = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_SPECIAL = {sign: rf"\text{word}{{}}" for sign, word in _WORDS.items()} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def as_latex(text: str) -> str:
    """Any text as LaTeX that prints it, on one line: an empty one would end a table."""
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(text.split()))
