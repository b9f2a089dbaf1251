"""Data sets: labelled images in two splits, read by name, varied and put into batches."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.data.dataset import AS_IT_IS as AS_IT_IS
    from kdprobe.data.dataset import DataSet as DataSet
    from kdprobe.data.dataset import ImageFiles as ImageFiles
    from kdprobe.data.dataset import ImageItems as ImageItems
    from kdprobe.data.dataset import Pictures as Pictures
    from kdprobe.data.dataset import Shown as Shown
    from kdprobe.data.dataset import Split as Split
    from kdprobe.data.dataset import View as View
    from kdprobe.data.loaders import Batch as Batch
    from kdprobe.data.loaders import evaluation_batches as evaluation_batches
    from kdprobe.data.loaders import n_batches as n_batches
    from kdprobe.data.loaders import training_batches as training_batches
    from kdprobe.data.spec import DATASETS as DATASETS
    from kdprobe.data.spec import load_data as load_data
    from kdprobe.data.spec import read_data as read_data

__all__ = [
    "AS_IT_IS",
    "DATASETS",
    "Batch",
    "DataSet",
    "ImageFiles",
    "ImageItems",
    "Pictures",
    "Shown",
    "Split",
    "View",
    "evaluation_batches",
    "load_data",
    "n_batches",
    "read_data",
    "training_batches",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "AS_IT_IS": "kdprobe.data.dataset",
        "Batch": "kdprobe.data.loaders",
        "DATASETS": "kdprobe.data.spec",
        "DataSet": "kdprobe.data.dataset",
        "ImageFiles": "kdprobe.data.dataset",
        "ImageItems": "kdprobe.data.dataset",
        "Pictures": "kdprobe.data.dataset",
        "Shown": "kdprobe.data.dataset",
        "Split": "kdprobe.data.dataset",
        "View": "kdprobe.data.dataset",
        "evaluation_batches": "kdprobe.data.loaders",
        "load_data": "kdprobe.data.spec",
        "n_batches": "kdprobe.data.loaders",
        "read_data": "kdprobe.data.spec",
        "training_batches": "kdprobe.data.loaders",
    },
)
