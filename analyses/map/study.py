"""A whole map: its networks are shown the images, their pairs are measured, and all is put together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analyses.map.checks import check_members
from analyses.map.members import Member
from analyses.map.pairs import RULES, comparison
from analyses.map.result import map_result
from analyses.map.work import TASK, MapSettings, complete_map, network_cells
from analyses.similarity.intervals import SAMPLE_GROUPS
from analyses.similarity.null import enough_permutations
from kdprobe.data import AS_IT_IS, View
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError, near_matches
from kdprobe.features.minibatches import SIZE
from kdprobe.models.checkpoint import facts_for
from kdprobe.results import Result
from kdprobe.sweeps.driver import RETRIES
from kdprobe.sweeps.engines import check_options, make_engine
from kdprobe.sweeps.work import Order
from kdprobe.terminal.progress import say
from kdprobe.user_code import trusted_modules


@exact_float32
def measure_map(
    members: Sequence[Member],
    folder: Path,
    *,
    measure: str = "cka",
    rule: str = "last",
    data: str | None = None,
    batch_size: int = SIZE,
    view: View = AS_IT_IS,
    told: Mapping[str, Any] | None = None,
    groups: int = SAMPLE_GROUPS,
    permutations: int = 0,
    device: str = "auto",
    engine: str = "local",
    retries: int = RETRIES,
    quiet: bool = True,
    **of_engine: Any,
) -> Result:
    """How alike all pairs of networks are.

    Args:
        members: from `find_members`.
        folder: for features and pairs; what it holds already is not done again.
        measure: `cka`, or a name in `analyses.similarity.measures.MEASURES`.
        rule: a name in `analyses.map.pairs.RULES`.
        data: the data SPEC; that of the first network that names one if not given.
        batch_size: images in a minibatch.
        view: how image files are shown.
        told: facts that files of networks do not hold, as `open_views` takes them.
        groups: of images, one left out at a time for the intervals of other measures than CKA; 0 for none.
        permutations: of the images, for the null of each pair and p values for all of them together; 0 for none.
        device: where networks run.
        engine: `local`, `ray` or `slurm`.
        retries: further tries of what fails.
        quiet: no progress on standard error.
        of_engine: options of `kdprobe.sweeps.engines.make_engine`.

    Returns:
        as `analyses.map.result.map_result`.

    Raises:
        AnalysisError: for an unknown measure or rule, networks without a data set, or networks that cannot be compared.
        Stopped: when told to stop, with everything saved that is done.
        SweepError: if the folder or the engine cannot be used.

    Example:
        >>> from pathlib import Path
        >>> from analyses.map import find_members, measure_map
        >>> from kdprobe.models import create, save
        >>> for name in ("one", "other"):
        ...     save(create("resnet8", n_classes=10, image_size=8), Path(f"{name}.safetensors"))
        >>> members = find_members(["one.safetensors", "other.safetensors"])
        >>> result = measure_map(members, Path("map"), data="digits", slots=1)
        >>> result.arrays["similarity"].shape
        (2, 2)
    """
    compared_by = comparison(measure, groups)
    permutations = enough_permutations(permutations, calibrated=permutations > 0)
    if rule not in RULES:
        raise AnalysisError(f"no rule {rule!r} for layers{near_matches(rule, RULES)}")
    check_options(engine, of_engine)
    shown = [one for one in members if one.spec]
    spec = data or next((one.data for one in members if one.data and not one.teacher), "")
    spec = spec or next((one.data for one in shown if one.data), "")
    if shown and not spec:
        raise AnalysisError(f"{shown[0].spec} does not name its data set; give one with --data")
    facts = iter(facts_for([one.spec for one in shown], told or {}))
    of_each = [next(facts) if one.spec else {} for one in members]
    settings = MapSettings(measure, rule, spec, batch_size, view.to_json(), of_each, groups, permutations)
    networks = network_cells(members, settings)
    first = next((cell.config for cell, one in zip(networks, members, strict=True) if one.spec), None)
    check_members(members, compared_by, rule=rule, batch_size=batch_size, shown=first)
    order = Order(folder.resolve(), task=TASK, device=device, trust=tuple(sorted(trusted_modules())))
    tell = (lambda _: None) if quiet else say
    cells = complete_map(
        folder,
        members,
        settings,
        lambda: make_engine(engine, order, **of_engine),
        retries=retries,
        say=tell,
        quiet=quiet,
    )
    return map_result(folder, members, cells, settings)
