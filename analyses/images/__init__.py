"""Test images one by one: what each network answers, where it puts them, and small pictures of some."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.images.gathering import images_result as images_result
    from analyses.images.projecting import project as project
    from analyses.images.table import image_table as image_table

__all__ = ["image_table", "images_result", "project"]

__getattr__, __dir__ = face(
    __name__,
    {
        "image_table": "analyses.images.table",
        "images_result": "analyses.images.gathering",
        "project": "analyses.images.projecting",
    },
)
