"""File formats: JSON, YAML, CSV, and outputs with a seal that says what they are."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.formats.jsons import parse_json as parse_json
    from kdprobe.formats.jsons import read_json as read_json
    from kdprobe.formats.outputs import Output as Output
    from kdprobe.formats.outputs import permit as permit
    from kdprobe.formats.outputs import write_sealed as write_sealed
    from kdprobe.formats.tables import safe_csv as safe_csv
    from kdprobe.formats.yamls import read_yaml as read_yaml

__all__ = ["Output", "parse_json", "permit", "read_json", "read_yaml", "safe_csv", "write_sealed"]

__getattr__, __dir__ = face(
    __name__,
    {
        "Output": "kdprobe.formats.outputs",
        "parse_json": "kdprobe.formats.jsons",
        "permit": "kdprobe.formats.outputs",
        "read_json": "kdprobe.formats.jsons",
        "read_yaml": "kdprobe.formats.yamls",
        "safe_csv": "kdprobe.formats.tables",
        "write_sealed": "kdprobe.formats.outputs",
    },
)
