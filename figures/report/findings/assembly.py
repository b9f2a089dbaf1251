"""The sentences of all sections in their order, each with the place of its numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from figures.report.elements import TOPICS, Finding
from figures.report.findings.wording import enumerated


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


@dataclass(frozen=True)
class Chapter:
    """Where sentences come from.

    Attributes:
        id: of the section in the page.
        heading: its heading.
        places: the ids of what shows each of its results, by the result's short file name.
        findings: the sentences.
        n_results: how many results it is made of.
    """

    id: str
    heading: str
    places: Mapping[str, str]
    findings: Iterable[Finding]
    n_results: int = 1


def by_topic(sections: Sequence[Chapter]) -> list[tuple[str, list[Told]]]:
    """The sentences under their topics, each of them once, and of those that ask for the same the first.

    In a section of several results each sentence begins with the names of those that it is about. Topics without any
    are left out.
    """
    asked: dict[str, str] = {}
    told: dict[str, dict[str, Told]] = {topic: {} for topic in TOPICS}
    for section in sections:
        alike: dict[tuple[str, str], list[Finding]] = {}
        for one in section.findings:
            if not one.asks or asked.setdefault(one.asks, one.text) == one.text:
                alike.setdefault((one.topic, one.text), []).append(one)
        for (topic, text), some in alike.items():
            names = enumerated(list(dict.fromkeys(one.of for one in some if one.of)))
            whole = f"{names}: {text}" if names and section.n_results > 1 else text
            target = section.places.get(some[0].of, section.id)
            told[topic].setdefault(whole, Told(whole, some[0].how, target, section.heading))
    return [(topic, list(_each_way_once(list(some.values())))) for topic, some in told.items() if some]


def _each_way_once(told: Sequence[Told]) -> Iterator[Told]:
    """The sentences, without saying again how those before were tested."""
    for before, one in zip([None, *told[:-1]], told, strict=True):
        yield replace(one, how="") if before and before.how == one.how else one
