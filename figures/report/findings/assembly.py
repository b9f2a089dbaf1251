"""The sentences of all sections in their order, each with the place of its numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from figures.report.elements import TOPICS, Finding


@dataclass(frozen=True)
class Told:
    """A sentence as the page has it.

    Attributes:
        text: the sentence.
        how: how that was tested; empty where the sentence before says the same.
        target: the id of the panel, figure or section that holds its numbers.
        heading: of that section.
    """

    text: str
    how: str
    target: str
    heading: str


def by_topic(sections: Sequence[tuple[str, str, Mapping[str, str], Iterable[Finding]]]) -> list[tuple[str, list[Told]]]:
    """The sentences under their topics, each of them once; topics without any are left out.

    Args:
        sections: for each its id, its heading, the ids of what shows each result (by its short file name), and its
            sentences.
    """
    told: dict[str, dict[str, Told]] = {topic: {} for topic in TOPICS}
    for section, heading, places, findings in sections:
        for one in findings:
            target = places.get(one.of, section)
            told[one.topic].setdefault(one.text, Told(one.text, one.how, target, heading))
    return [(topic, list(_each_way_once(list(some.values())))) for topic, some in told.items() if some]


def _each_way_once(told: Sequence[Told]) -> Iterator[Told]:
    """The sentences, without saying again how those before were tested."""
    for before, one in zip([None, *told[:-1]], told, strict=True):
        yield replace(one, how="") if before and before.how == one.how else one
