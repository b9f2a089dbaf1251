"""Train and measure everything behind the study's page, from the archives of images and the Transformer's weights.

    python docs/study/run.py --objects DIR --small DIR --faces DIR --weights FILE --out OUT [--only STEP ...]

DIR holds the images: `--objects` Tiny-ImageNet's fifty classes and `--small` a fifth of CIFAR-10, as folders train/
and val/ (or test/); `--faces` FER+ as `kdprobe data check ferplus:DIR` takes it. Everything goes through the command
line, as a user would do it. A step that is done is left as it is, and one that was interrupted goes on: the same
command again is enough.

Where `results/NAME/trials.tar.xz` keeps the records of trials, these are not trained again. They belong to
a teacher that is the same to the byte, as it is on machines of the same kind; elsewhere the command says so: begin then
in another OUT with --fresh, which trains all of them.
"""

import argparse
import os
import shlex
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import kdprobe

LOGITS = ("kd", "dkd", "dist", "ofa")
FEATURES = ("fitnet", "rkd", "at", "rsd", "cakd", "srd", "cka")
PARTS = ("dropkd", "dropkd-without-dropout", "dropkd-feature", "dropkd-logit")
READINGS = (
    "dropkd", "dropkd-without-dropout", "dropkd-independent", "dropkd-channels", "dropkd-logits",
    "dropkd-logits-without-dropout", "plain", "dropkd-without-transfer",
)  # fmt: skip
RATES = "0,0.3,0.5,0.7,0.9"
TRANSFORMER = "vit_small_patch14_dinov2"


class Study:
    """The steps, each a method; where an output is there already, nothing is done.

    Commands run in the folder of the outputs, so that results name no folder of one machine.
    """

    def __init__(self, told: argparse.Namespace) -> None:
        self.out: Path = told.out.resolve()
        self.weights = self.seen(told.weights)
        self.slots: int = told.slots
        self.fresh: bool = told.fresh
        self.objects, self.small = (f"folder:{self.seen(folder)}" for folder in (told.objects, told.small))
        self.faces = f"ferplus:{self.seen(told.faces)}"
        self.steps: dict[str, Callable[[], None]] = {
            "transformer": self.transformer,
            "cnn": self.cnn,
            "rates": self.rates,
            "readings": self.readings,
            "mobilenet": self.mobilenet,
            "headless": self.headless,
            "faces": self.of_faces,
            "measures": self.measures,
        }

    def seen(self, path: Path) -> str:
        """A path as it is seen from the folder of the outputs."""
        return os.path.relpath(path.resolve(), self.out)

    def transformer(self) -> None:
        """DINOv2 with a head teaches ResNet8: all methods, tuned alike."""
        self.teacher("dinov2-head", self.objects, f"model.weights={self.weights}")
        methods = ("plain", *LOGITS, *FEATURES, *PARTS)
        self.compare("dinov2-resnet8", methods, Path("dinov2-head"), self.objects, seeds=4)

    def cnn(self) -> None:
        """The control: a CNN teaches a CNN."""
        self.teacher("cifar-resnet20", self.small)
        methods = ("plain", "kd", "rkd", "srd", "dropkd", "dropkd-without-dropout")
        self.compare("cifar-resnet8", methods, Path("cifar-resnet20"), self.small, seeds=4)

    def rates(self) -> None:
        """DropKD's rates, equal for both networks, of features and of logits; its projection is half as wide."""
        folder = Path("rates")
        self.run(
            "sweep-dropout", "study/dinov2-resnet8", "--kind", "both", "--rates", RATES, "--max-gap", "0",
            "--set", "method.name=dropkd", "--set", "method.dim=128", "--seeds", "3", "--teacher", Path("dinov2-head"),
            "--data", self.objects, "--out", folder, "--slots", self.slots,
        )  # fmt: skip
        self.once(Path("measures", "rates"), "dropout", folder)

    def readings(self) -> None:
        """What the paper leaves open, read otherwise; nothing is chosen, so one trial of one epoch is enough."""
        self.compare("dinov2-readings", READINGS, Path("dinov2-head"), self.objects, trials=1, trial_epochs=0.05)

    def mobilenet(self) -> None:
        """The same Transformer teaches another CNN."""
        methods = ("plain", "kd", "dropkd", "dropkd-without-dropout")
        self.compare("dinov2-mobilenetv2", methods, Path("dinov2-head"), self.objects)

    def headless(self) -> None:
        """The Transformer without a head: methods that need no classifier of the teacher's."""
        methods = ("plain", "fitnet", "rkd", "srd", "dropkd", "dropkd-without-dropout")
        teacher = f"{TRANSFORMER}@{self.weights}"
        self.compare("headless-resnet8", methods, teacher, self.objects)

    def of_faces(self) -> None:
        """A Transformer that was fine-tuned on faces teaches two CNNs; eac is not defined for MobileNetV2."""
        self.teacher("ferplus-dinov2", self.faces, f"model.weights={self.weights}")
        methods = ("plain", "kd", "dropkd", "dropkd-without-dropout", "scn")
        for recipe, also in (("ferplus-resnet18", ("eac",)), ("ferplus-mobilenetv2", ())):
            self.compare(recipe, (*methods, *also), Path("ferplus-dinov2"), self.faces, trials=2)
        self.compare(
            "ferplus-resnet18", ["dropkd-without-dropout"], Path("ferplus-dinov2"), self.faces,
            trials=1, trial_epochs=0.1, into="ferplus-published",
        )  # fmt: skip

    def measures(self) -> None:
        """What the trained networks have in common with their teachers, inside and in their answers."""
        for name, teacher in (("dinov2-resnet8", "dinov2-head"), ("cifar-resnet8", "cifar-resnet20")):
            self.inside(name, Path(teacher))
        for recipe in ("ferplus-resnet18", "ferplus-mobilenetv2"):
            self.on_faces(recipe, Path("ferplus-dinov2"))

    def inside(self, name: str, teacher: Path) -> None:
        """Decomposition, CKA and neighbours of each final network; answers and map of all together.

        The stages of all networks, averaged over positions, are dumped once and compared from there.
        """
        finals, into = self.finals(name), Path("measures", name)
        for run in finals:
            self.pair(into, teacher, run)
        self.answers(into, teacher, finals)
        self.once(into / "map", "map", *finals, "--calibrate")

    def pair(self, into: Path, teacher: Path, run: Path) -> None:
        """What one network has in common with its teacher."""
        dumps = [self.dump(into / "dumps" / f"{one.name}.h5", one) for one in (teacher, run)]
        told = ("--features", dumps[0], "--features", dumps[1])
        self.once(into / "decomposition" / run.name, "decompose", *told)
        self.once(into / "cka" / run.name, "cka", *told, "--calibrate")
        self.once(into / "cknna" / run.name, "similarity", *told, "--measure", "cknna")

    def dump(self, file: Path, run: Path) -> Path:
        """The stages of one network on the test images."""
        if not (self.out / file).exists():
            self.run("dump", "--checkpoint", run, "--layers", "stages", "--reduce", "gap", "--out", file)
        return file

    def on_faces(self, name: str, teacher: Path) -> None:
        """Recall, confusion, answers, and pairs of emotions."""
        finals, into = self.finals(name), Path("measures", name)
        checkpoints = [word for run in (teacher, *finals) for word in ("--checkpoint", run)]
        self.once(into / "evaluation", "evaluate", *checkpoints)
        pairs = self.faces.replace("ferplus:", "ferplus-compound:")
        self.once(into / "compound", "compound", *checkpoints, "--data", pairs)
        self.answers(into, teacher, finals)

    def answers(self, into: Path, teacher: Path, finals: Sequence[Path]) -> None:
        """Fidelity of those that learnt from the teacher, beside those that did not."""
        alone = [
            run for run in finals if "teacher: null" in (self.out / run / "config.yaml").read_text(encoding="utf-8")
        ]
        taught = [word for run in finals if run not in alone for word in ("--student", run)]
        controls = [word for run in alone for word in ("--control", run)]
        self.once(into / "fidelity", "fidelity", "--teacher", teacher, *taught, *controls)

    def finals(self, name: str) -> list[Path]:
        """The networks that were tested, of the settings that were chosen."""
        cells = (self.out / name / "finals" / "cells").glob("*/result.json")
        return sorted(path.parent.relative_to(self.out) for path in cells)

    def teacher(self, recipe: str, data: str, *assignments: str) -> None:
        """Train a teacher, or go on with it."""
        folder = Path(recipe)
        if (self.out / folder / "result.json").exists():
            return
        if (self.out / folder / "state.pt").exists():
            self.run("train", "--resume", "--out", folder)
        else:
            settings = [word for one in assignments for word in ("--set", one)]
            self.run("train", f"study/{recipe}", "--data", data, *settings, "--out", folder)

    def compare(
        self,
        recipe: str,
        methods: Sequence[str],
        teacher: Path | str,
        data: str,
        *,
        trials: int = 4,
        trial_epochs: float = 0.5,
        seeds: int = 3,
        into: str | None = None,
    ) -> None:
        """Tune and test methods in one setting; trials whose records are kept are not trained again."""
        folder = into or recipe
        kept = Path(__file__).parent / "results" / folder / "trials.tar.xz"
        if kept.exists() and not self.fresh and not (self.out / folder).exists():
            with tarfile.open(kept) as archive:
                archive.extractall(self.out, filter="data")
        self.run(
            "compare", f"study/{recipe}", "--methods", ",".join(methods), "--teacher", teacher, "--data", data,
            "--trials", trials, "--seeds", seeds, "--trial-epochs", trial_epochs, "--out", Path(folder),
            "--slots", self.slots,
        )  # fmt: skip

    def once(self, folder: Path, *words: object) -> None:
        """A command whose result is not there yet."""
        if not list((self.out / folder).glob("*.npz")):
            self.run(*words, "--out", folder)

    def run(self, *words: object) -> None:
        """One command; stores of teachers lie beside the outputs."""
        told = [str(word) for word in words]
        print("$", shlex.join(["kdprobe", *told]), flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        os.chdir(self.out)
        if status := kdprobe.main(told):
            raise SystemExit(status)


def main() -> None:
    """Read the command line and take the steps."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("objects", "small", "faces", "weights", "out"):
        told.add_argument(f"--{name}", required=True, type=Path)
    told.add_argument("--slots", type=int, default=2, help="trainings at a time")
    told.add_argument("--fresh", action="store_true", help="train the trials too whose records are kept")
    told.add_argument("--only", nargs="+", help="these steps alone")
    given = told.parse_args()
    study = Study(given)
    for name in given.only or study.steps:
        study.steps[name]()


if __name__ == "__main__":
    main()
