"""
Wrong numbers, and how they are avoided
=======================================

Three ways in which a CKA of one's own goes wrong without a sign, each beside what kdprobe gives.
"""

import matplotlib.pyplot as plt
import torch

from analyses.cka import cka, minibatch_cka

torch.manual_seed(0)


def naive_cka(x, y):
    """The textbook's: biased HSIC of all images at once."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float((x.mT @ y).norm() ** 2 / ((x.mT @ x).norm() * (y.mT @ y).norm()))


# %%
# **Wide layers, few images.** Two layers that have nothing in common. The biased estimate rises with the width; the
# unbiased one stays at 0.
widths = [8, 32, 128, 512, 2048]
naive, ours = [], []
for width in widths:
    x, y = torch.randn(8, 64, width), torch.randn(8, 64, width)
    naive.append(sum(naive_cka(one, other) for one, other in zip(x, y, strict=True)) / 8)
    ours.append(minibatch_cka(x, y))

# %%
# **Features far from zero.** Means of 1,000 and a spread of 1, in float32, as after some batch norms. Gram matrices of
# uncentred features lose the digits in which images differ; kdprobe centres first.
shared = torch.randn(8, 64, 16)
x, y = shared + 1000, shared + 0.5 * torch.randn_like(shared) + 1000
centring = torch.eye(64) - 1 / 64
grams = [[centring @ (layer @ layer.mT) @ centring for layer in pair] for pair in zip(x, y, strict=True)]
late = sum(float((a * b).sum() / (a.norm() * b.norm())) for a, b in grams) / 8
exact = minibatch_cka(x.double() - 1000, y.double() - 1000)
print(f"truth {exact:.3f}   uncentred float32 {late:.3f}   kdprobe {minibatch_cka(x, y):.3f}")


# %%
# **A ReLU that works in place.** A hook that only keeps the tensor of `norm` finds it overwritten by the ReLU behind
# it, and calls the two layers equal. kdprobe takes what the layer gave.
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.relu = torch.nn.BatchNorm1d(16), torch.nn.ReLU(inplace=True)

    def forward(self, features):
        return self.relu(self.norm(features))


net, kept = Net().eval(), {}
for name, layer in (("norm", net.norm), ("relu", net.relu)):
    layer.register_forward_hook(lambda _, __, output, name=name: kept.__setitem__(name, output))
batches = list(torch.randn(8, 64, 16))
with torch.no_grad():
    net(batches[0].clone())
hooked = naive_cka(kept["norm"], kept["relu"])
result = cka(net, net, batches, teacher_layers=["norm"], student_layers=["relu"])
print(f"plain hook {hooked:.3f}   kdprobe {result.matrix[0, 0]:.3f}")

# %%
figure, (axes, others) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
axes.semilogx(widths, naive, marker="o", base=2, label="biased, per minibatch of 64")
axes.semilogx(widths, ours, marker="s", base=2, label="kdprobe (unbiased)")
axes.axhline(0, color="grey", linewidth=0.8)
axes.set(xlabel="width of the layers", ylabel="CKA of independent layers", ylim=(-0.1, 1))
axes.legend()
places = torch.arange(2)
others.bar(places - 0.15, [late, hooked], 0.3, label="naive")
others.bar(places + 0.15, [minibatch_cka(x, y), result.matrix[0, 0]], 0.3, label="kdprobe")
others.set(xticks=places, xticklabels=["far from zero", "ReLU in place"], ylim=(0, 1), ylabel="CKA")
others.legend()
