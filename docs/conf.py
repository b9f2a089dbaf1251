"""Sphinx: the documentation of kdprobe, `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from sphinx_parts.reference import write_pages

import kdprobe

project, author, copyright = "kdprobe", "the authors of kdprobe", "the authors of kdprobe"
version = release = kdprobe.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
    "sphinx_parts.references",
]
exclude_patterns = ["_build", "gallery", "examples/*.ipynb", "examples/*.py", "examples/*.json", "**/*.zip"]
html_theme = "furo"
html_title = "kdprobe"
html_static_path = ["static"]
html_css_files = ["kdprobe.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
suppress_warnings = ["toc.empty_glob"]  # there may be no study

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

smartquotes = False  # two hyphens are two hyphens
default_role = "code"  # docstrings write `name` as Markdown does
autodoc_default_options = {"exclude-members": "model_config"}  # of pydantic
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
nitpicky = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"/\w+\.py",
    "image_scrapers": ("sphinx_parts.pictures.scrape",),
    "reset_modules": ("matplotlib", "sphinx_parts.pictures.reset"),
    "within_subsection_order": "sphinx_parts.pictures.InOrder",
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 5,
    "write_computation_times": False,
    "capture_repr": (),
    "plot_gallery": "True",
}

write_pages(HERE / "reference" / "made")
