"""A logger: `kdprobe train ... --logger lines`."""


class Lines:
    """Appends a line for each epoch to `lines.txt` in the run folder."""

    def __init__(self, folder):
        self.path = folder / "lines.txt"

    def epoch(self, number, values):
        """One line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{number} {values['loss']:.4f} {values['accuracy']:.4f}\n")
