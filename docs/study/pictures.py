"""Draw the pictures of `docs/study/index.md` from the results beside it.

    python docs/study/pictures.py

Each picture shows what a table of the page says; one whose results are not there is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from page import HERE, REFERENCE, RESULTS, accuracies, at_stages, by_method, last_stages, methods_of, methods_on_map
from published_grids import Grid, published_grids
from scipy.stats import studentized_range

from figures import draw, drawing_style
from figures.style import CHANCE, INK, MUTED, PALETTE, RISING
from kdprobe.mean_interval import mean_interval
from kdprobe.results import load_result

PICTURES = HERE / "pictures"
KINDS = ("feature", "logit")
_WIDE = 6.875


def shares(name: str) -> Figure:
    """What the last stages share with the teacher's, by method: a dot for each seed, and the mean with its interval."""
    values = last_stages(name)
    methods = list(next(iter(values.values())))
    figure, axes = plt.subplots(1, len(values), figsize=(_WIDE, 0.9 + 0.17 * len(methods)), sharey=True)
    for panel, (quantity, table) in zip(axes, values.items(), strict=True):
        _rows(panel, quantity, [table[method] for method in methods], special=methods.index(REFERENCE))
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].invert_yaxis()
    figure.tight_layout(w_pad=0.6)
    return figure


def _rows(axes: Axes, quantity: str, rows: Sequence[Mapping[int, float]], *, special: int) -> None:
    for place, row in enumerate(rows):
        of_seeds = list(row.values())
        mean, half = mean_interval(of_seeds)
        colour = PALETTE[1] if place == special else PALETTE[0]
        axes.plot(of_seeds, [place] * len(of_seeds), ".", color=CHANCE, markersize=3)
        axes.plot([mean - half, mean + half], [place, place], color=colour, linewidth=1)
        axes.plot(mean, place, "o", color=colour, markersize=3)
    axes.set_xlabel(quantity.replace(" share of ", " share\nof "))
    axes.grid(axis="x")


def by_stage(name: str) -> Figure:
    """What a few methods' students share with the teacher at each pair of stages: means with their intervals."""
    values = at_stages(name)
    quantities = list(values[next(iter(values))])
    of_methods = dict(zip(("plain", "kd", "dist", REFERENCE, "dropkd"), PALETTE, strict=False))
    shown = [method for method in of_methods if method in accuracies(name)]
    figure, axes = plt.subplots(1, len(quantities), figsize=(_WIDE, 2.5))
    for panel, quantity in zip(axes, quantities, strict=True):
        for place, method in enumerate(shown):
            ends = np.array([mean_interval(list(of[quantity][method].values())) for of in values.values()])
            at = np.arange(len(values)) + 0.12 * (place - (len(shown) - 1) / 2)
            line = "--" if method == REFERENCE else "-"
            look = {"color": of_methods[method], "markersize": 2, "linewidth": 0.8}
            panel.errorbar(at, *ends.T, fmt=f"o{line}", label=method, **look)
        panel.set_xticks(range(len(values)), [stages.split()[0] for stages in values], rotation=60)
        panel.set_title(quantity.replace(" share of ", " share\nof "))
        panel.grid(axis="y")
    figure.supxlabel("stage of the teacher")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=len(shown), loc="outside upper center")
    figure.tight_layout(w_pad=0.3, rect=(0, 0, 1, 0.9))
    return figure


def against_accuracy(name: str) -> Figure:
    """Accuracy of each student by what it shares with the teacher inside."""
    values, accuracy = last_stages(name), accuracies(name)
    figure, axes = plt.subplots(1, len(values), figsize=(_WIDE, 2.3), sharey=True)
    for panel, (quantity, table) in zip(axes, values.items(), strict=True):
        for method, row in table.items():
            seeds = list(row)
            colour, marker = (PALETTE[1], "s") if method == "plain" else (PALETTE[0], "o")
            heights = [100 * accuracy[method][seed] for seed in seeds]
            panel.plot([row[seed] for seed in seeds], heights, marker, color=colour, markersize=3, alpha=0.7)
        panel.set_xlabel(quantity.replace(" share of ", " share\nof "))
        panel.grid()
    axes[0].set_ylabel("accuracy %")
    axes[0].plot([], [], "s", color=PALETTE[1], markersize=3, label="plain")
    axes[0].plot([], [], "o", color=PALETTE[0], markersize=3, label="taught")
    axes[0].legend(loc="best", handletextpad=0.2)
    figure.tight_layout(w_pad=0.6)
    return figure


def rates(_: str) -> Figure:
    """Accuracy by equal rates of both networks, features and logits."""
    figure, axes = plt.subplots(1, 2, figsize=(_WIDE, 2.2), sharey=True)
    for panel, kind in zip(axes, KINDS, strict=True):
        result = load_result(RESULTS / f"rates-dropout-{kind}.npz")
        ticks = result.facts["rates_teacher"]
        table = 100 * np.stack([result.arrays["accuracy"][place, place] for place in range(len(ticks))])
        ends = np.array([mean_interval(row) for row in table])
        panel.plot(ticks, table, ".", color=CHANCE, markersize=4)
        panel.errorbar(ticks, *ends.T, fmt="o-", color=PALETTE[0], markersize=3, linewidth=1, capsize=2)
        panel.set_xlabel(f"rate of {kind}s, of both networks")
        panel.set_xticks(ticks)
        panel.grid(axis="y")
    axes[0].set_ylabel("accuracy %")
    figure.tight_layout()
    return figure


def grids(_: str) -> Figure:
    """The range of each published grid beside those that noise alone gives."""
    found = published_grids()
    figure, axes = plt.subplots(1, len(found), figsize=(_WIDE, 2.1), sharey=True)
    for panel, grid in zip(axes, found, strict=True):
        _range(panel, grid)
    axes[0].set_ylabel("highest - lowest cell, points")
    figure.tight_layout()
    return figure


def _range(axes: Axes, grid: Grid) -> None:
    deviations = np.array([0.0, 1.0])
    low, middle, high = studentized_range.ppf([0.025, 0.5, 0.975], grid.n_cells, np.inf)
    axes.fill_between(deviations, low * deviations, high * deviations, color=RISING[1], label="95 % of such grids")
    axes.plot(deviations, middle * deviations, color=PALETTE[0], linewidth=1, label="median")
    axes.axhline(grid.range, color=INK, linewidth=0.8, label="published")
    axes.axvline(grid.enough, color=MUTED, linewidth=0.8, linestyle=":", label="smallest that suffices")
    axes.set_xlabel("standard deviation of a cell, points")
    axes.set_title(f"Figure {grid.name[-1]}: {grid.kind} rates, {grid.n_cells} cells")
    axes.legend(loc="upper left")


def fidelity(name: str) -> Figure:
    """Answers beside the teacher's, of all methods."""
    result = load_result(RESULTS / name / "fidelity.npz")
    return draw(result, names=methods_of(name, result))


def where_they_lie(name: str) -> Figure:
    """The map, its methods called as the comparison calls them."""
    result = load_result(RESULTS / f"{name}/map.npz")
    networks = zip(
        *(result.facts[key] for key in ("networks", "methods", "seeds")), methods_on_map(name, result), strict=True
    )
    names: dict[str, str] = {}
    for network, method, seed, called in networks:
        if method is not None:
            names |= {method: called, network: f"{called}, seed {seed}"}
    return draw(result, names=names)


def confusion(name: str) -> Figure:
    """Which emotions are taken for which: the teacher, and of a few methods the first seed."""
    result = load_result(RESULTS / name / "evaluation.npz")
    trained = by_method(name, result)
    shown = [0, *(trained[method][0] for method in ("plain", "kd", "dropkd"))]
    arrays = {key: array if key == "targets" else array[shown] for key, array in result.arrays.items()}
    facts = {**result.facts, "names": ["teacher", "plain", "kd", "dropkd"]}
    models = [result.provenance["models"][place] for place in shown]
    return draw(replace(result, arrays=arrays, facts=facts, provenance={**result.provenance, "models": models}))


def of_result(file: str) -> Figure:
    """A result as kdprobe draws it."""
    return draw(load_result(RESULTS / file))


#: name of the file, what draws it, and what about; the files that it needs
WANTED: Sequence[tuple[str, Callable[[str], Figure], str, Sequence[str]]] = (
    *(
        wanted
        for name in ("dinov2-resnet8", "cifar-resnet8")
        for wanted in (
            (f"{name}-comparison", of_result, f"{name}/comparison.npz", [f"{name}/comparison.npz"]),
            (f"{name}-shares", shares, name, ["networks.csv", f"{name}/comparison.npz"]),
            (f"{name}-stages", by_stage, name, ["networks.csv", f"{name}/comparison.npz"]),
            (f"{name}-accuracy", against_accuracy, name, ["networks.csv", f"{name}/comparison.npz"]),
            (f"{name}-fidelity", fidelity, name, ["networks.csv", f"{name}/fidelity.npz"]),
            (f"{name}-map", where_they_lie, name, ["networks.csv", f"{name}/map.npz"]),
        )
    ),
    *(
        (f"{name}-comparison", of_result, f"{name}/comparison.npz", [f"{name}/comparison.npz"])
        for name in ("dinov2-readings", "headless-resnet8", "dinov2-mobilenetv2")
    ),
    *(
        wanted
        for name in ("ferplus-resnet18", "ferplus-mobilenetv2")
        for wanted in (
            (f"{name}-comparison", of_result, f"{name}/comparison.npz", [f"{name}/comparison.npz"]),
            (f"{name}-fidelity", fidelity, name, ["networks.csv", f"{name}/fidelity.npz"]),
            (f"{name}-confusion", confusion, name, ["networks.csv", f"{name}/evaluation.npz"]),
        )
    ),
    ("rates", rates, "", ["rates-dropout-feature.npz", "rates-dropout-logit.npz"]),
    ("grids", grids, "", []),
)


def main() -> None:
    """Draw all that can be drawn."""
    PICTURES.mkdir(exist_ok=True)
    for name, drawn, about, needed in WANTED:
        if all((RESULTS / file).exists() for file in needed):
            with drawing_style():
                figure = drawn(about)
                figure.savefig(PICTURES / f"{name}.png", dpi=200, metadata={"Software": None})
            plt.close(figure)
            print(PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
