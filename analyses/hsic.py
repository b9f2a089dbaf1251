"""The unbiased Hilbert-Schmidt independence criterion; `kdprobe.features.hsic` says how it is computed."""

from kdprobe.features.hsic import unbiased_hsic

__all__ = ["unbiased_hsic"]
