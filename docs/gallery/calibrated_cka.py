"""
CKA beside what chance gives
============================

A CKA of 0.4 says little by itself: how much would two networks that share nothing have? Calibration puts the student's
images in random orders, 200 times, and asks how far the observed value exceeds all that.
"""

import torch

import figures
from analyses.cka import cka
from kdprobe.data import evaluation_batches, load_data
from kdprobe.models import create

torch.manual_seed(0)
digits = load_data("digits", image_size=16)
vit = {"patch_size": 4, "embed_dim": 48, "depth": 4, "num_heads": 4}
teacher = create("vit_tiny_patch16_224", n_classes=10, image_size=16, args=vit)
student = create("resnet8", n_classes=10, image_size=16)


# %%
# The stages of the student see what the teacher sees. Its `blind` twin is shown noise instead, so that whatever CKA it
# has with the teacher is chance.
def noise(batch):
    return torch.randn(len(batch.images), 3, 16, 16)


batches = list(evaluation_batches(digits.test, batch_size=32))[:4]
seeing = cka(teacher, student, batches, reduce="gap", calibrate=True)
blind = cka(
    teacher,
    student,
    [batch.images.float() / 255 for batch in batches],
    student_loader=[noise(batch) for batch in batches],
    reduce="gap",
    calibrate=True,
)
for name, result in (("seeing", seeing), ("blind", blind)):
    print(f"{name}: CKA {result.matrix.max():.2f}, calibrated {result.calibration.pairs.score.max():.2f}")

# %%
# A calibrated value is 0 up to the largest value that chance gives in 95 % of cases, and 1 for equal features.
figure = figures.draw(seeing.to_result()).figure

# %%
# Pairs that do not exceed their null are grey: of the blind student, all.
figure = figures.draw(blind.to_result()).figure
