"""Each room of the analyses shows its names without loading what stands behind them."""

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = tuple(f"analyses.{name}" for name in ("cka", "evaluation", "images", "knowledge", "map", "similarity"))


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_room_is_what_it_seems(room):
    face = import_module(room)
    for name in face.__all__:
        assert getattr(face, name).__module__.startswith(room)
        assert name in dir(face)
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'nothing'"):
        _ = face.nothing


def test_a_name_that_is_nearly_one_of_a_face_is_told():
    import analyses.cka
    import kdprobe

    for face, wrong, right in ((kdprobe, "capturee", "capture"), (analyses.cka, "CKAresult", "CKAResult")):
        with pytest.raises(AttributeError, match=f"has no attribute '{wrong}'; did you mean '{right}'"):
            getattr(face, wrong)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        _ = kdprobe.nothing


def test_rooms_load_nothing_heavy():
    code = f"import sys, analyses.commands, {', '.join(ROOMS)}; assert not {{'torch', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hsic_has_a_face_of_its_own():
    from analyses.hsic import unbiased_hsic
    from kdprobe.features import hsic

    assert unbiased_hsic is hsic.unbiased_hsic


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("analyses.cka.networks", "cka minibatch_cka"),
        ("analyses.cka.stored", "files_cka"),
        ("analyses.cka.epochs", "cka_over_time"),
        ("analyses.cka.feature_corrected", "feature_corrected_cka"),
        ("analyses.evaluation.predictions", "predict judge"),
        ("analyses.evaluation.probing", "judge_by_probe"),
        ("analyses.evaluation.accuracy", "evaluate"),
        ("analyses.evaluation.compound", "compound_result"),
        ("analyses.diagnosis.result", "diagnose"),
        ("analyses.fidelity.result", "measure_fidelity"),
        ("analyses.fidelity.inherited", "inherited_errors"),
        ("analyses.images.gathering", "images_result"),
        ("analyses.map.work", "work_on"),
        ("analyses.map.study", "measure_map"),
        ("analyses.similarity.result", "files_similarity layers_similarity networks_similarity"),
        ("analyses.knowledge.decomposition", "decompose"),
        ("analyses.knowledge.layers", "decompose_layers decompose_networks"),
        ("analyses.knowledge.dropkd", "reconstruct"),
        ("analyses.latency", "latencies"),
        ("analyses.paired_features", "shown_features loader_features shown_maps"),
        ("kdprobe.features.dump", "write_dump"),
    ],
)
def test_what_measures_computes_exactly_unless_its_caller_chose(module, names):
    from kdprobe.devices import exact_float32

    inside = exact_float32(print).__code__
    for name in names.split():
        function = getattr(import_module(module), name)
        while function.__code__ is not inside:
            function = function.__wrapped__


def test_a_network_answers_in_exact_float32(monkeypatch):
    import torch

    from analyses.evaluation import predict
    from kdprobe import devices

    class Asks(torch.nn.Flatten):
        def forward(self, images):
            seen.append(devices.float32_settings())
            return super().forward(images)

    seen: list[dict[str, str]] = []
    for chosen, how in ((False, "exact"), (True, "tf32")):
        with devices.float32(tf32=True):
            token = devices._CHOSEN.set(chosen)
            predict(Asks(), [torch.zeros(2, 3, 4, 4)])
            devices._CHOSEN.reset(token)
            assert set(devices.float32_settings().values()) == {"tf32"}
        assert set(seen.pop().values()) == {how}
