import errno
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from analyses.cka.stored import files_cka
from analyses.map import pairs, study, tiles
from analyses.map.members import find_members
from analyses.map.result import map_summary, map_table
from analyses.map.showing import prepare_network
from analyses.map.study import measure_map
from analyses.map.tiles import read_pairs
from analyses.map.work import MapSettings, network_cells, tile_cells
from analyses.similarity import files_similarity, procrustes
from figures import draw
from figures.report.page import page
from kdprobe.cli.group import cli
from kdprobe.errors import AnalysisError, ConfigError, KdprobeError, StoreError, SweepError
from kdprobe.features.store import FeatureStore
from kdprobe.kinds import find_kind
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.results import load_result
from tests.analyses.map.networks import BATCH, Here, N, features, write_dump


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(study, "make_engine", lambda _name, order, **_: Here(order))


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    """Three networks with one, two and three stages."""
    folder = tmp_path_factory.mktemp("dumps")
    return [
        write_dump(folder / f"n{n}.h5", {f"stage{i}": features(10 * n + i, 5 + n) for i in range(n)}) for n in (1, 2, 3)
    ]


def measured(dumps, out, **options):
    return measure_map(find_members(dumps), out, batch_size=BATCH, **options)


@pytest.mark.usefixtures("here")
def test_each_pair_is_cka_of_the_last_stages_with_its_interval(dumps, tmp_path):
    result = measured(dumps, tmp_path / "cells")
    matrix = result.arrays["similarity"]
    for (row, one), (column, other) in [((0, "stage0"), (2, "stage2")), ((1, "stage1"), (2, "stage2"))]:
        files = [Path(dumps[row]), Path(dumps[column])]
        pair = files_cka(files, teacher_layers=one, student_layers=other)
        assert matrix[row, column] == matrix[column, row] == pytest.approx(pair.matrix[0, 0], rel=1e-12)
        assert result.arrays["low"][row, column] == pytest.approx(pair.low[0, 0], rel=1e-9)
        assert result.arrays["high"][column, row] == pytest.approx(pair.high[0, 0], rel=1e-9)
    assert (matrix.diagonal() == 1).all()
    assert result.facts["networks"] == ["n1", "n2", "n3"]
    assert result.facts["n_samples"] == N
    assert not result.facts["no_interval"]
    assert result.arrays["tree"].shape == (2, 4)
    assert "none of the networks is a run" in result.facts["groupings"][0]["reason"]
    find_kind("map").check(result.arrays, result.facts, result.provenance)
    assert len(map_table(result)) == 6
    assert "most alike: n" in map_summary(result)
    assert "not tested, none of the networks is a run" in map_summary(result)


@pytest.mark.usefixtures("here")
def test_depth_is_the_mean_over_stages_at_the_same_relative_depth(dumps, tmp_path):
    result = measured(dumps, tmp_path / "cells", rule="depth")
    whole = files_cka(
        [*map(Path, dumps[1:])]
    )  # two stages with three: the first goes with the second, the last with the last
    expected = (whole.matrix[0, 1] + whole.matrix[1, 2]) / 2
    assert result.arrays["similarity"][1, 2] == pytest.approx(expected, rel=1e-12)
    assert result.arrays["low"][1, 2] < expected < result.arrays["high"][1, 2]
    narrower = [whole.high[0, 1] - whole.low[0, 1], whole.high[1, 2] - whole.low[1, 2]]
    assert result.arrays["high"][1, 2] - result.arrays["low"][1, 2] < max(narrower)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_other_measures_have_both_directions_and_the_intervals_of_similarity(dumps, tmp_path):
    result = measured(dumps, tmp_path / "cells", measure="rsa-spearman")
    pair = files_similarity([Path(dumps[0]), Path(dumps[2])], "rsa-spearman", student_layers=["stage2"])
    expected = (pair.arrays[key][0, 0] for key in ("matrix", "low", "high"))
    for key, value in zip(("similarity", "low", "high"), expected, strict=True):
        assert result.arrays[key][0, 2] == result.arrays[key][2, 0] == pytest.approx(value, rel=1e-9)
    assert not result.facts["no_interval"]
    none = measured(dumps, tmp_path / "cells", measure="rsa-spearman", groups=0)
    assert np.isnan(none.arrays["low"][0, 2])
    assert none.facts["no_interval"] == "they were not asked for"
    two = measured(dumps, tmp_path / "cells", measure="rsa-spearman", groups=2)
    assert two.facts["no_interval"] == "intervals need at least 3 groups of samples, but there were 2"
    turned = measured(dumps, tmp_path / "cells", measure="procrustes")
    with FeatureStore.open(dumps[0]) as one, FeatureStore.open(dumps[2]) as other:
        value = procrustes(one.read("student", "stage0"), other.read("student", "stage2"))
    assert turned.arrays["similarity"][0, 2] == pytest.approx(value, rel=1e-9)
    assert np.isnan(turned.arrays["low"][0, 2])
    assert turned.facts["no_interval"].startswith("the measure is larger for fewer samples in more dimensions")
    pwcca = measured(dumps, tmp_path / "cells", measure="pwcca").arrays["similarity"]
    assert pwcca[0, 2] != pwcca[2, 0]


@pytest.mark.usefixtures("here")
def test_an_interval_of_several_stages_is_that_of_their_mean(dumps, tmp_path):
    result = measured(dumps, tmp_path / "cells", measure="rsa-spearman", rule="depth")
    whole = files_similarity([*map(Path, dumps[1:])], "rsa-spearman").arrays
    places = [0, 1], [1, 2]
    assert result.arrays["similarity"][1, 2] == pytest.approx(whole["matrix"][places].mean(), rel=1e-9)
    half = (result.arrays["high"] - result.arrays["low"])[1, 2] / 2
    each = (whole["high"] - whole["low"])[places] / 2
    assert abs(each[0] - each[1]) / 2 < half < each.mean()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("n_methods", "smallest"), [(2, [0.5, 0.5]), (3, [1 / 6, 1 / 4]), (4, [1 / 24, 1 / 8])])
def test_p_values_that_few_runs_cannot_make_small_are_told_everywhere(n_methods, smallest, tmp_path):
    near = [features(place // 2) + 0.01 * features(99 + place) for place in range(2 * n_methods)]
    files = [write_dump(tmp_path / f"{place}.h5", {"s": layer}) for place, layer in enumerate(near)]
    members = [
        replace(
            one, name=f"m{place // 2}, seed {place % 2}", method=f"m{place // 2}", seed=place % 2, content=str(place)
        )
        for place, one in enumerate(find_members(files))
    ]
    result = measure_map(members, tmp_path / "m", batch_size=BATCH)
    tested = result.facts["groupings"]
    assert [one["smallest_p"] for one in tested] == pytest.approx(smallest)
    assert [one["permutations"] for one in tested] == [0, 0]
    assert tested[0]["p_value"] == pytest.approx(smallest[0])  # methods lie far apart here
    find_kind("map").check(result.arrays, result.facts, result.provenance)
    said = [
        f"too few runs to show whether {of} lie apart: p cannot be below {least:.4f}, however far apart they are"
        for of, least in zip(("methods", "seeds"), smallest, strict=True)
        if least > 0.05
    ]
    shown = [text.get_text() for text in draw(result).texts]
    lines = map_summary(result).splitlines()
    assert said
    assert [line for line in lines if "too few runs" in line] == said
    assert set(said) <= set(shown)
    report = page([(tmp_path / "map.npz", result)], title="maps")
    assert all(f"<li>{escape(line)}</li>" in report for line in lines[1:])


@pytest.mark.usefixtures("here")
def test_what_a_value_must_not_be_read_without_is_told(tmp_path):
    files = [write_dump(tmp_path / f"{place}.h5", {"s": features(place, 30)}) for place in range(3)]
    result = measured(files, tmp_path / "m", measure="pwcca")
    assert "3 pairs: " in map_summary(result)
    assert "are 1 whatever the features are" in map_summary(result)


@pytest.mark.usefixtures("here")
def test_gram_dumps_give_the_same_cka_and_no_other_measure(dumps, tmp_path):
    layers = {"stage0": features(10, 6)}
    files = [write_dump(tmp_path / f"{name}.h5", layers, grams=True) for name in "ab"]
    assert measured(files, tmp_path / "m").arrays["similarity"][0, 1] == pytest.approx(1)
    with pytest.raises(StoreError, match=r"holds Gram matrices, of which RSA.* cannot be taken; take --measure cka"):
        measured(files, tmp_path / "m", measure="rsa")


@pytest.mark.usefixtures("here")
def test_a_constant_layer_has_no_value_and_its_network_no_place(dumps, tmp_path):
    constant = write_dump(tmp_path / "c.h5", {"stage0": torch.ones(N, 3)})
    result = measured([*dumps, constant], tmp_path / "m")
    assert np.isnan(result.arrays["similarity"][3, :3]).all()
    assert np.isnan(result.arrays["points"][3]).all()
    assert result.arrays["tree"].shape == (2, 4)
    assert {cell["reason"] for cell in result.facts["undefined"]} == {
        "layer 'stage0' is the same for all samples but for rounding: its HSIC with itself is 0"
    }
    assert "3 pairs have no value" in map_summary(result)
    other = measured([*dumps, constant], tmp_path / "m", measure="procrustes")
    assert "the same for all samples" in other.facts["undefined"][0]["reason"]


@pytest.mark.usefixtures("here")
def test_two_networks_and_three_minibatches_are_enough_and_two_minibatches_have_no_interval(tmp_path):
    files = [write_dump(tmp_path / f"{s}.h5", {"s": features(s)[:24]}) for s in (0, 1)]
    result = measured(files, tmp_path / "m")
    assert result.facts["no_interval"] == "intervals need at least 3 minibatches, but there were 2"
    assert result.arrays["points"].shape == (2, 2)


def test_a_tile_goes_on_behind_the_last_whole_pair(dumps, tmp_path, monkeypatch):
    members = find_members(dumps)
    settings = MapSettings("cka", "last", "", BATCH, {}, [{}] * 3)
    networks = network_cells(members, settings)
    for cell in networks:
        prepare_network(cell.config, tmp_path / "cells" / cell.id, "cpu")
    (tile,) = tile_cells(networks, settings)
    out, compared = tmp_path / "cells" / f"{tile.id}.1", []
    compare = pairs._CKA.compare
    monkeypatch.setattr(pairs._CKA, "compare", lambda *given: compared.append(0) or compare(*given))
    tiles.measure_tile(tile.config, out)
    whole = (out / tiles.PAIRS).read_text()
    assert len(compared) == 3
    first, second, _, _ = whole.split("\n")
    (out / tiles.PAIRS).write_text(f"{first}\n{second[:40]}")
    tiles.measure_tile(tile.config, out)
    assert len(compared) == 5
    assert sorted((out / tiles.PAIRS).read_text().split()) == sorted(whole.split())
    assert len(list(read_pairs(out / tiles.PAIRS))) == 3


@pytest.mark.usefixtures("here")
def test_what_is_there_is_not_done_again(dumps, tmp_path, monkeypatch):
    first = measured(dumps, tmp_path / "m")

    def no_work(*_):
        raise AssertionError

    monkeypatch.setattr("analyses.map.work.work_on", no_work)
    again = measured(dumps, tmp_path / "m")
    assert (again.arrays["similarity"] == first.arrays["similarity"]).all()


@pytest.mark.usefixtures("here")
def test_a_damaged_tile_is_measured_again(dumps, tmp_path):
    first = measured(dumps, tmp_path / "m")
    (path,) = (tmp_path / "m" / "cells").glob(f"*/{tiles.PAIRS}")
    path.write_text(path.read_text().replace("0.", "1.", 1))
    assert (measured(dumps, tmp_path / "m").arrays["similarity"] == first.arrays["similarity"]).all()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_networks_are_shown_the_images_and_compared_by_each_rule(tmp_path):
    for seed, name in enumerate(("resnet8", "resnet14")):
        torch.manual_seed(seed)
        save(create(name, n_classes=10, image_size=32, data="digits").eval(), tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("resnet8", "resnet14")]
    members = find_members(files)
    assert [one.name for one in members] == ["resnet8.safetensors", "resnet14.safetensors"]
    found = {rule: measure_map(members, tmp_path / "m", rule=rule) for rule in ("last", "pooled", "depth")}
    values = {rule: result.arrays["similarity"][0, 1] for rule, result in found.items()}
    assert values["last"] == pytest.approx(values["pooled"], abs=1e-6)  # what enters their classifier is that mean
    assert values["depth"] != values["last"]
    assert found["last"].facts["n_samples"] == 359
    assert found["last"].provenance["networks"][0]["checkpoint"] == files[0]
    with pytest.raises(AnalysisError, match=r"has the sha256 .*, but the runs were taught by abc"):
        measure_map([replace(members[0], sha256="abc", content="other"), members[1]], tmp_path / "m")
    broken = create("resnet8", n_classes=10, image_size=32, data="digits").eval()
    torch.nn.init.constant_(next(broken.parameters()), 3e38)
    nan = replace(members[0], spec=str(_saved(broken, tmp_path / "nan.safetensors")), content="nan")
    before = _everything(tmp_path)
    for folder in (tmp_path / "m", tmp_path / "new" / "m"):
        with pytest.raises(AnalysisError, match=r"layer '.*' has \d+ NaN or infinite values among"):
            measure_map([nan, replace(members[0], sha256="abc", content="other")], folder)
        assert _everything(tmp_path) == before


@pytest.mark.usefixtures("here")
def test_networks_that_cannot_be_read_are_refused_before_anything_is_written(dumps, tmp_path):
    short = tmp_path / "short.safetensors"
    short.write_bytes(
        _saved(create("resnet8", n_classes=10, image_size=32), tmp_path / "a.safetensors").read_bytes()[:-100]
    )
    for bad in (str(short), str(tmp_path / "none.safetensors")):
        refused = CliRunner().invoke(cli, ["map", *dumps, bad, "--out", str(tmp_path / "m"), "--quiet"])
        assert Path(bad).name in str(refused.exception)
        assert isinstance(refused.exception, KdprobeError)
        assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("here")
def test_a_pair_that_cannot_be_compared_leaves_everything_as_it_was(dumps, tmp_path, monkeypatch):
    def compare(*_):
        raise AnalysisError("no")

    command = ["map", *dumps, "--batch-size", str(BATCH), "--out", str(tmp_path / "new" / "m"), "--quiet"]
    with monkeypatch.context() as patched:
        patched.setattr(pairs._CKA, "compare", compare)
        refused = CliRunner().invoke(cli, command)
        assert str(refused.exception) == "n1 and n2: no"
        assert not (tmp_path / "new").exists()
    measured(dumps[:2], tmp_path / "new" / "m" / "cells")
    before = _everything(tmp_path)
    monkeypatch.setattr(pairs._CKA, "compare", compare)
    refused = CliRunner().invoke(cli, command)
    assert str(refused.exception) == "n1 and n2: no"
    assert _everything(tmp_path) == before


@pytest.mark.usefixtures("here")
def test_what_failed_for_a_reason_that_can_pass_keeps_what_is_done(dumps, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pairs._CKA, "compare", full)
    with pytest.raises(SweepError, match=r"No space left on device; see .*\.log; the same command tries again"):
        measured(dumps, tmp_path / "m", retries=0)
    assert len(list((tmp_path / "m" / "cells").glob("*/source.json"))) == len(dumps)


def _everything(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _saved(model, path):
    save(model, path)
    return path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("other", "options", "error", "said"),
    [
        ({"index": torch.arange(N) + 1}, {}, StoreError, "hold different samples or a different order"),
        ({"size": BATCH + 1, "grams": True}, {}, StoreError, "holds Gram matrices of 13 samples, not of 12"),
        ({"reduce": "flatten"}, {}, AnalysisError, "holds gap of each layer, but .* flatten; dump both with the same"),
        ({"stages": []}, {}, AnalysisError, "holds no stages of its student; dump it with --layers stages"),
        ({}, {"rule": "pooled"}, AnalysisError, "does not hold the classifier's input as its layer 'pooled'; give the"),
        ({}, {"rule": "first"}, AnalysisError, "no rule 'first' for layers; known: depth, last, pooled"),
        ({}, {"measure": "procrust"}, AnalysisError, "no measure 'procrust'; did you mean 'procrustes'"),
        ({}, {"slots": 2, "engine": "ray"}, ConfigError, "--slots is for --engine local, not for ray"),
    ],
)
def test_what_cannot_be_compared_is_told(tmp_path, other, options, error, said):
    files = [
        write_dump(tmp_path / "a.h5", {"s": features(0)}),
        write_dump(tmp_path / "b.h5", {"s": features(1)}, **other),
    ]
    with pytest.raises(error, match=said):
        measured(files, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_command_saves_draws_and_says_what_it_found(dumps, tmp_path):
    done = CliRunner().invoke(cli, ["map", *dumps, "--batch-size", str(BATCH), "--out", str(tmp_path / "m"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert "least alike" in done.output
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"cells", "map.npz", "map.csv", "map.png", "map.pdf"}
    assert load_result(tmp_path / "m" / "map.npz").kind == "map"


def test_contradictions_and_networks_without_data_are_refused(dumps, tmp_path):
    out = ["--out", str(tmp_path / "m")]
    both = CliRunner().invoke(cli, ["map", *dumps, "--teacher", "timm:resnet18", "--no-teacher", *out])
    assert "--teacher and --no-teacher exclude each other" in str(both.exception)
    none = CliRunner().invoke(cli, ["map", "timm:resnet18", "timm:resnet34", *out])
    assert "timm:resnet18 does not name its data set; give one with --data" in str(none.exception)
    assert not (tmp_path / "m").exists()


def test_a_dump_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StoreError, match="there is no feature file"):
        find_members([str(tmp_path / "x.h5"), "timm:resnet18"])
