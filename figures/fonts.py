"""Fonts of figures: one that matplotlib brings, and for letters that it lacks one that is installed."""

from functools import lru_cache

from matplotlib import font_manager

#: fonts with the letters of Chinese, Japanese and Korean, as Linux, macOS and Windows have them
_EAST_ASIAN = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
)


@lru_cache
def families() -> list[str]:
    """Values of `font.family`: letters that the first font lacks are taken from the next one that is installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["sans-serif", *(name for name in _EAST_ASIAN if name in installed)]
