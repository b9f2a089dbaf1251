"""A logger: `kdprobe train ... --logger lines`."""


class Lines:
    """Writes a line for each epoch to `lines.txt` in the run folder."""

    def __init__(self, folder, settings):
        self.path, self.epochs = folder / "lines.txt", settings["training.epochs"]

    def log(self, values, step):
        """One line; a resumed run tells all its epochs again, so the file begins anew with the first."""
        with self.path.open("w" if step == 1 else "a", encoding="utf-8") as file:
            file.write(f"{step}/{self.epochs} {values['loss']:.4f} {values['accuracy']:.4f}\n")

    def close(self):
        """Nothing is open."""
