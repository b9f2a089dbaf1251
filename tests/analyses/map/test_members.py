import pytest

from analyses.map.members import find_members
from kdprobe.errors import AnalysisError, RunError
from tests.analyses.map.networks import features, write_dump, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two methods with two seeds each, of one teacher."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("kd", "at"):
        for seed in (0, 1):
            write_run(folder / f"{method}{seed}", f"method.name={method}", f"seed={seed}", teacher_sha256="taught")
    return folder


def test_runs_have_their_method_and_seed_and_one_teacher(runs, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "weights").touch()
    with pytest.raises(AnalysisError, match="cannot be shown beside its teacher: its teacher t/teacher is not there"):
        find_members([str(runs)])
    alone = find_members([str(runs)], teachers=False)
    assert [one.name for one in alone] == ["at, seed 0", "at, seed 1", "kd, seed 0", "kd, seed 1"]
    assert [(one.method, one.seed) for one in alone] == [("at", 0), ("at", 1), ("kd", 0), ("kd", 1)]
    assert {one.data for one in alone} == {"digits"}
    assert not any(one.teacher for one in alone)


def test_a_teacher_among_the_runs_is_marked_wherever_it_is_now(runs, tmp_path):
    teacher = write_run(
        tmp_path / "teacher", "model.name=resnet14", "method.name=plain", "teacher=null", weights="taught"
    )
    found = find_members([str(runs), str(teacher)])
    assert [one.teacher for one in found] == [True, *[False] * 4]
    assert found[0].spec == str(teacher)
    assert len(found) == 5


def test_the_teacher_at_its_place_is_a_member_with_what_the_run_was_told(runs, tmp_path, monkeypatch):
    from kdprobe.models import create
    from kdprobe.models.checkpoint import save

    monkeypatch.chdir(tmp_path)
    save(
        create("resnet8", n_classes=10, image_size=32, data="digits").eval(),
        tmp_path / "t" / "teacher" / "last.safetensors",
    )
    first, *rest = find_members([str(runs)])
    assert first.teacher
    assert (first.spec, first.sha256, first.content) == ("t/teacher", "taught", "taught")
    assert first.named_by.endswith("config.yaml")
    assert len(rest) == 4
    given = find_members([str(runs)], teacher="t/teacher")
    assert given[0].teacher
    assert given[0].named_by == ""
    assert len(given[0].content) == 64


def test_a_dump_of_both_networks_gives_both_and_the_same_teacher_counts_once(tmp_path):
    layers = {"s": features(0)}
    files = [write_dump(tmp_path / f"{name}.h5", layers, roles=("teacher", "student"), sha256="") for name in "ab"]
    found = find_members(files)
    assert [(one.name, one.teacher) for one in found] == [
        *(("a, teacher", True), ("b, teacher", True), ("a, student", False), ("b, student", False)),
    ]
    same = [write_dump(tmp_path / f"{name}.h5", layers, roles=("teacher",), sha256="w") for name in "cd"]
    with pytest.raises(AnalysisError, match=r"a map needs two networks at least, but .* names 1"):
        find_members(same)


def test_names_that_several_have_get_numbers(runs):
    twice = [str(runs / "kd0"), str(runs / "at0")]
    assert [one.name for one in find_members(twice, teachers=False)] == ["at", "kd"]
    with pytest.raises(RunError, match="there is no folder"):
        from kdprobe.runs.folder import find_runs

        find_runs("nowhere")


def test_the_key_of_a_network_is_its_content_and_how_it_is_shown(runs):
    one, other, *_ = find_members([str(runs)], teachers=False)
    assert one.key(data="digits") == one.key(data="digits")
    assert len({one.key(data="digits"), one.key(data="cifar10:x"), other.key(data="digits")}) == 3
