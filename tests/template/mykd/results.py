"""A kind of result and its picture; results are saved by `kdprobe.results.save_result`."""

from matplotlib.figure import Figure

from kdprobe.kinds import ORIGIN, SHARE, Kind, List, Text, Values

HUES = Kind(
    arrays={"hue": Values("names channels", within=SHARE)},
    facts={"names": List(Text(), "names")},
    provenance=ORIGIN,
)


def draw(result):
    """A square of colour for each name."""
    figure = Figure(figsize=(4, 1))
    axes = figure.add_subplot()
    axes.imshow(result.arrays["hue"][None])
    axes.set_xticks(range(len(result.facts["names"])), result.facts["names"])
    axes.set_yticks([])
    return figure
