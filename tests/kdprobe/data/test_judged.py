"""Networks of runs without test images, or with bad training images, can be judged and looked into."""

import numpy as np
import pytest
from PIL import Image

from analyses.evaluation.predictions import judge, open_networks
from kdprobe.cli import group as cli
from kdprobe.data import decode, load_data
from kdprobe.errors import DataError, NoTestImages
from kdprobe.features.shared_images import open_views


def images(folder, n=12):
    noise = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(n):
            pixels = noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def trained(out, data, *words):
    settings = ("data.image_size=16", "training.epochs=1", "training.batch_size=8", *words)
    assignments = [word for setting in settings for word in ("--set", setting)]
    cli.run("train", "digits/resnet8", "--data", f"folder:{data}", *assignments, "--out", out, "--quiet")
    return str(out)


def test_a_run_without_test_images_is_judged_on_what_it_held_out(tmp_path):
    images(tmp_path / "D" / "train")
    run = trained(tmp_path / "run", tmp_path / "D", "data.holdout=0.25")
    (one,) = judge([run])
    expected = load_data(f"folder:{tmp_path / 'D'}", image_size=16, holdout=0.25, seed=0)
    assert one.data.evaluated_on == "holdout"
    assert one.data.test.labels.tolist() == expected.test.labels.tolist()
    assert len(one.logits) == len(expected.test) == 6
    views = open_views({"student": run})
    assert views.n_samples == 6
    with pytest.raises(NoTestImages, match="no test images"):
        load_data(f"folder:{tmp_path / 'D'}", image_size=16)


def test_training_images_are_not_decoded_for_it(tmp_path, monkeypatch):
    images(tmp_path / "D" / "train")
    images(tmp_path / "D" / "test", n=3)
    run = trained(tmp_path / "run", tmp_path / "D")
    seen, original = [], decode.decode_batch

    def noted(pictures, places, **options):
        seen.extend(pictures.name(place) for place in places)
        return original(pictures, places, **options)

    monkeypatch.setattr(decode, "decode_batch", noted)
    (one,) = judge([run])
    assert len(one.logits) == len(seen) == 6
    assert all("/test/" in name for name in seen)
    open_views({"student": run})
    assert len(seen) == 12
    next(open_networks([run], decode=True))
    assert len(seen) == 12 + 6 + 24


def test_networks_that_held_out_other_images_are_not_judged_together(tmp_path):
    images(tmp_path / "D" / "train")
    runs = [trained(tmp_path / f"{seed}", tmp_path / "D", "data.holdout=0.25", f"seed={seed}") for seed in (0, 1)]
    with pytest.raises(DataError, match=r"held out 0.25 of the training images by seed 1, but .* 0.25 by seed 0"):
        judge(runs)


def test_the_same_data_by_another_name_are_the_same_data(tmp_path):
    images(tmp_path / "D" / "train")
    names = tmp_path / "D", f"{tmp_path / 'D'}/"
    runs = [trained(tmp_path / f"{n}", name, "data.holdout=0.25", f"seed={n}") for n, name in enumerate(names)]
    with pytest.raises(DataError, match=r"held out 0.25 of the training images by seed 1, but .* 0.25 by seed 0"):
        judge(runs)


def test_a_snapshot_is_judged_on_what_its_run_held_out(tmp_path):
    images(tmp_path / "D" / "train")
    given = ("data.holdout=0.25", "training.saving.snapshots=1")
    runs = [trained(tmp_path / f"{seed}", tmp_path / "D", *given, f"seed={seed}") for seed in (0, 1)]
    snapshots = [f"{run}/snapshots/epoch-0001.safetensors" for run in runs]
    (snapshot,), (last,) = judge(snapshots[:1]), judge(runs[:1])
    assert snapshot.data.evaluated_on == "holdout"
    assert snapshot.logits.equal(last.logits)
    with pytest.raises(DataError, match=r"held out 0.25 of the training images by seed 1, but .* 0.25 by seed 0"):
        judge([runs[0], snapshots[1]])


def test_runs_of_one_data_seed_held_out_the_same_images(tmp_path):
    images(tmp_path / "D" / "train")
    settings = ("data.holdout=0.25", "data.seed=5")
    runs = [trained(tmp_path / f"{seed}", tmp_path / "D", *settings, f"seed={seed}") for seed in (0, 1)]
    expected = load_data(f"folder:{tmp_path / 'D'}", image_size=16, holdout=0.25, seed=5)
    for one in judge(runs):
        assert one.data.test.images.equal(expected.test.images)
    weights = [(tmp_path / name / "last.safetensors").read_bytes() for name in "01"]
    assert weights[0] != weights[1]


def test_a_bad_training_image_that_the_run_left_out_is_no_obstacle(tmp_path):
    for part in ("train", "test"):
        images(tmp_path / "D" / part, n=6)
    (tmp_path / "D" / "train" / "a" / "bad.png").write_bytes(b"x" * 50)
    run = trained(tmp_path / "run", tmp_path / "D", "data.skip_bad=true")
    (one,) = judge([run])
    assert len(one.logits) == len(one.data.test.labels) == 12
    assert open_views({"student": run}).n_samples == 12
