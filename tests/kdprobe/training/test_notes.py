"""What a training says of itself before it begins: of images that are not seen, and classes that are not judged."""

import torch
from PIL import Image

from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.recipe import read_recipe
from kdprobe.training.build import build
from tests.small_jobs import TINY, job_of

PATCHED = "model={name: vit_tiny_patch16_224, args: {patch_size: 6, embed_dim: 24, depth: 1, num_heads: 2}}"


def test_an_edge_that_the_patches_do_not_cover_is_told():
    _, job = job_of({}, "plain", PATCHED)
    assert (
        "the student does not see whole images: its patches of 6 px cover 12 of 16 px, and the edge beyond them is not "
        "seen: take a multiple of 6"
    ) in job.notes
    _, job = job_of({}, "plain", PATCHED, "data.image_size=18")
    assert not [note for note in job.notes if "edge" in note]


def test_classes_without_evaluation_images_are_told(tmp_path):
    for split, classes in (("train", "abcdef"), ("val", "ab")):
        for name in classes:
            for number in range(4):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((16, 16), 50).convert("RGB").save(path)
    values = override(read_recipe("digits/demo-student"), [*TINY, f"data.spec=folder:{tmp_path}", "method.name=plain"])
    job = build(parse(values, option_types(), source="test"), torch.device("cpu"))
    assert "no test images of 'c', 'd', 'e' and 1 more: the accuracy says nothing of them" in job.notes
    assert not [note for note in job_of({}, "plain")[1].notes if "says nothing" in note]
