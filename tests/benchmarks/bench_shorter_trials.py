"""Whether trials of half the epochs choose the settings that whole ones choose.

    python -m tests.benchmarks.bench_shorter_trials RECIPE --teacher T --data SPEC --out DIR

Two comparisons of the same settings, which differ in the epochs of their trials alone. Printed are, for each method,
the rank correlation of the accuracies on held-out images over the settings, what either chooses, and how much the
choice of the short ones loses, judged by the whole ones. Interrupted, the same command goes on.
"""

import argparse
from pathlib import Path

from scipy.stats import spearmanr

import kdprobe
from kdprobe.results import Result, load_result


def compared(given: argparse.Namespace, fraction: float) -> Result:
    """The comparison whose trials have this fraction of the recipe's epochs."""
    out = given.out / f"{fraction:g}"
    words = ["compare", given.recipe, "--methods", given.methods, "--teacher", given.teacher, "--data", given.data]
    words += ["--trials", str(given.trials), "--seeds", "1", "--trial-epochs", str(fraction), "--out", str(out)]
    if status := kdprobe.main(words):
        raise SystemExit(status)
    return load_result(out / "comparison.npz", kind="tuned-comparison")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    for name in ("teacher", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--methods", default="plain,kd,rkd,srd")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--fraction", type=float, default=0.5)
    given = parser.parse_args()
    short, whole = (compared(given, fraction) for fraction in (given.fraction, 1.0))
    print(
        "| method | rank correlation | chosen by short trials | by whole ones | lost, points |\n|---|---|---|---|---|"
    )
    chosen = zip(short.arrays["chosen"].tolist(), whole.arrays["chosen"].tolist(), strict=True)
    for place, (by_short, by_whole) in enumerate(chosen):
        few, all_of_them = (one.arrays["held_out"][place] for one in (short, whole))
        lost = 100 * (all_of_them[by_whole] - all_of_them[by_short])
        correlation = spearmanr(few, all_of_them).statistic
        print(f"| {whole.facts['methods'][place]} | {correlation:.2f} | {by_short} | {by_whole} | {lost:.1f} |")


if __name__ == "__main__":
    main()
