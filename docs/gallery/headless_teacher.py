"""
A teacher without a head
========================

A self-supervised network such as DINOv2 has no classifier, another image size and more dimensions than the student.
Methods that compare features take it as it is; both networks see the same crop, each at its own size.
"""

import matplotlib.pyplot as plt
import torch

import kdprobe
from analyses.similarity import mutual_knn
from kdprobe.data import load_data
from kdprobe.models import Stages, create, model_info

# %%
# A small Vision Transformer in the form of DINOv2, with random weights: `n_classes=0`, 28 pixels. The real one is
# `kdprobe.load("vit_small_patch14_dinov2@dinov2.safetensors", n_classes=0, image_size=98)`.
torch.manual_seed(0)
args = {"patch_size": 7, "embed_dim": 48, "depth": 2, "num_heads": 4, "global_pool": "avg", "init_values": None}
teacher = create("vit_small_patch14_dinov2", n_classes=0, image_size=28, args=args)
student = create("resnet8", n_classes=10, image_size=8)

# %%
# RKD asks that images which lie apart for the teacher lie apart for the student. One tensor in [0, 1] is resized and
# standardised for each network.
digits = load_data("digits", image_size=8)
images, labels = digits.train.images / 255, digits.train.labels
test = digits.test.images / 255
distillation = kdprobe.Distillation(student, teacher, "rkd", n_epochs=6)
optimizer = torch.optim.SGD(distillation.parameters(), lr=0.02, momentum=0.9)


@torch.no_grad()
def pooled(model):
    prepared = model_info(model).prepare(test)
    features = Stages(model.eval(), needs=("pooled",))(prepared).pooled
    return torch.nn.functional.normalize(features)  # nearest by cosine


target, shared = pooled(teacher), [mutual_knn(pooled(teacher), pooled(student))]
for epoch in range(6):
    student.train()
    for some in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        distillation(images[some], labels[some], epoch=epoch).loss.backward()
        optimizer.step()
    shared.append(mutual_knn(target, pooled(student)))

# %%
# Of the 10 nearest neighbours of an image, how many do both networks have in common?
chance = 10 / (len(test) - 1)
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
axes.plot(shared, marker="o", label="student and teacher")
axes.axhline(chance, color="grey", linestyle="--", label="chance")
axes.set(xlabel="epoch", ylabel="mutual 10-nearest neighbours", ylim=(0, None))
axes.legend()
