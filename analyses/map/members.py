"""Which networks a map is of: runs, sweeps, checkpoints and dumps, and the teachers of the runs."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdprobe.config import TeacherFacts
from kdprobe.errors import AnalysisError
from kdprobe.features.store import FeatureStore
from kdprobe.files import sha256, shortest_names
from kdprobe.models.checkpoint import LAST, is_foreign, read_info
from kdprobe.runs.compare import gather, group, run_names
from kdprobe.runs.folder import RunFolder
from kdprobe.training.places import missing_teacher


@dataclass(frozen=True)
class Member:
    """A network of a map.

    Attributes:
        name: in tables and pictures.
        spec: the network, as `kdprobe.load` takes it; empty for one in a dump.
        file: the dump that holds it; empty for one that is shown the images.
        role: in the dump.
        content: what tells it from others: the sha256 of its weights, or of the dump's network and what it was shown.
        sha256: that its weights must have; empty where nothing says so.
        method: what it has in common with the runs that differ from it in the seed alone; None for other networks.
        seed: of the run.
        teacher: whether it taught one of the others.
        named_by: the run that names it; empty if the person at the keyboard does.
        data: the data set that it was trained on, if it is known.
        told: facts that its file does not hold, as its run was told them.
    """

    name: str
    spec: str = ""
    file: str = ""
    role: str = ""
    content: str = ""
    sha256: str = ""
    method: str | None = None
    seed: int | None = None
    teacher: bool = False
    named_by: str = ""
    data: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    def key(self, **settings: Any) -> str:
        """Sixteen hexadecimal digits: the same for the same network in the same place, shown under these settings."""
        place = {"spec": self.spec, "file": self.file, "role": self.role}
        return content_key({**place, "content": self.content, "told": dict(self.told), **settings})


def content_key(content: Any) -> str:
    """Sixteen hexadecimal digits that are the same for equal JSON values on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_members(texts: Sequence[str], *, teacher: str | None = None, teachers: bool = True) -> list[Member]:
    """The networks that texts name, each once, the teachers first.

    Args:
        texts: folders of runs, such as sweeps, of which all finished runs are taken; dumps (`.h5`), of which all
            networks are; or whatever else `kdprobe.load` takes.
        teacher: the network that taught the runs, in place of the one that they name.
        teachers: whether the teachers that runs name are members too.

    Raises:
        AnalysisError: for fewer than two networks, or a teacher that is not where it was.
        RunError: for folders without finished runs, or runs that cannot be compared.
        StoreError: for a dump that cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from analyses.map import find_members
        >>> from kdprobe.models import create, save
        >>> for name in ("one", "other"):
        ...     save(create("resnet8", n_classes=10, image_size=8), Path(f"{name}.safetensors"))
        >>> [member.name for member in find_members(["one.safetensors", "other.safetensors"])]
        ['one.safetensors', 'other.safetensors']
    """
    folders = [text for text in texts if Path(text).is_dir()]
    dumps = [text for text in texts if text.endswith(".h5")]
    others = [text for text in texts if text not in (*folders, *dumps)]
    found = [*_of_runs(folders), *_of_dumps(dumps), *_of_specs(others)]
    if teacher is not None:
        found = _with_teacher(found, replace(next(_of_specs([teacher])), teacher=True))
    elif teachers:
        known = {one.content for one in found}
        for one in _teachers_of([run for run in (gather(folders) if folders else []) if run.finished], known):
            found = _with_teacher(found, one)
    members = list({one.content: one for one in reversed(found)}.values())[::-1]
    members.sort(key=lambda one: not one.teacher)
    if len(members) < 2:
        raise AnalysisError(
            f"a map needs two networks at least, but {' '.join(texts)} names {len(members)}, as a network counts once"
        )
    return _distinctly_named(members)


def _of_runs(folders: Sequence[str]) -> Iterator[Member]:
    if not folders:
        return
    groups = group(gather(folders))
    called = run_names(groups)
    for entry in groups:
        for run, result in zip(entry.runs, entry.results, strict=True):
            content = str(result.get("sha256", {}).get(LAST, run.path.resolve()))
            facts: dict[str, Any] = {"method": entry.name, "seed": result["seed"], "data": result["data"]}
            yield Member(called[run.path], str(run.path.resolve()), content=content, sha256=content, **facts)


def _of_dumps(paths: Sequence[str]) -> Iterator[Member]:
    for path, name in zip(paths, shortest_names([Path(path).with_suffix("") for path in paths]), strict=True):
        with FeatureStore.open(path) as store:
            for role in store.roles:
                network = store.network(role)
                shown = [store.reduce, store.content, store.batch_size, store.n_samples, network.images or store.data]
                content = content_key([network.sha256 or f"{path} {role}", *shown, store.layers(role)])
                label = name if len(store.roles) == 1 else f"{name}, {role}"
                is_teacher = role == "teacher" and len(store.roles) > 1
                yield Member(label, file=str(Path(path).resolve()), role=role, content=content, teacher=is_teacher)


def _of_specs(specs: Sequence[str]) -> Iterator[Member]:
    for spec, name in zip(specs, shortest_names([Path(spec) for spec in specs]), strict=True):
        if spec.endswith(".safetensors") and not Path(spec.partition("@")[2] or spec).is_file():
            raise AnalysisError(f"there is no {spec}; give a run, a checkpoint or a dump")
        path, of_run = Path(spec.partition("@")[2] or spec), Path(spec) / LAST
        file = of_run if of_run.is_file() else path
        ours = file.suffix == ".safetensors" and "@" not in spec and file.is_file()
        data = (read_info(file).data or "") if ours else ""
        content = f"{spec.partition('@')[0]} {sha256(file)}" if "@" in spec and file.is_file() else spec
        yield Member(name, spec, content=sha256(file) if ours else content, data=data)


def _teachers_of(runs: Iterable[RunFolder], known: Collection[str]) -> Iterator[Member]:
    """The teachers of runs; one whose content is known already need not be where it was."""
    for run in runs:
        spec, sha = run.values()["teacher"], str(run.result().get("teacher_sha256") or "")
        if spec is None:
            continue
        if sha in known:
            yield Member("", content=sha, teacher=True)
            continue
        if missing := missing_teacher(spec):
            raise AnalysisError(f"{run.path} cannot be shown beside its teacher: {missing}, or give --no-teacher")
        (named,) = _of_specs([spec])
        origin: dict[str, Any] = {"named_by": str(run.config_path), "told": _facts(run, spec)}
        yield replace(named, content=sha or named.content, sha256=sha, teacher=True, **origin)


def _facts(run: RunFolder, teacher: str) -> dict[str, Any]:
    """What a run was told of its teacher, and the image size where no file gives one."""
    facts = TeacherFacts.model_validate(run.values()["teacher_facts"] or {}).of_network()
    if is_foreign(teacher) and "image_size" not in facts:
        facts["default_size"] = read_info(run.path / LAST).image_size
    return facts


def _with_teacher(members: list[Member], teacher: Member) -> list[Member]:
    """The members and a teacher; one that is among them already is marked."""
    if all(one.content != teacher.content for one in members):
        return [*members, teacher]
    return [replace(one, teacher=one.teacher or one.content == teacher.content) for one in members]


def _distinctly_named(members: list[Member]) -> list[Member]:
    """The same, with a number behind names that several have."""
    counts: dict[str, int] = {}
    for one in members:
        counts[one.name] = counts.get(one.name, 0) + 1
    seen: dict[str, int] = {}
    named = []
    for one in members:
        seen[one.name] = seen.get(one.name, 0) + 1
        named.append(one if counts[one.name] == 1 else replace(one, name=f"{one.name} ({seen[one.name]})"))
    return named
