"""`--format onnx`: a file for ONNX Runtime, TensorRT, OpenVINO, browsers and phones."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.errors import ExportError
from kdprobe.exports.network import NetworkAlone, first_line, in_silence, traced
from kdprobe.exports.runner import Runner

_LARGEST = 2**31 - 2**24  # bytes of weights: a protobuf message ends at 2 GiB
_FEW = 4  # images for onnx's own evaluator, which is slow


def write_onnx(network: NetworkAlone, path: Path) -> None:
    """Write the network as one ONNX file with a dynamic batch.

    Raises:
        ExportError: if packages are missing, the network is too large for one file, or an operation is not known to
            ONNX.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch translates with it
    except ImportError as error:
        raise ExportError(
            f"--format onnx needs the package {error.name}: pip install 'kdprobe[export]', or give --format torch"
        ) from error
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > _LARGEST:
        raise ExportError(
            f"{network.info.name} has {size / 1e9:.1f} GB of weights, but an ONNX file holds at most 2 GB; "
            "give --format torch"
        )
    program = traced(network)
    try:
        with in_silence():
            names: dict[str, Any] = {"input_names": ["images"], "output_names": [network.output]}
            translated = torch.onnx.export(program, **names, dynamo=True, verbose=False)
    except Exception as error:
        raise ExportError(
            f"{network.info.name} cannot be translated to ONNX; give --format torch: {first_line(error)}"
        ) from error
    assert translated is not None
    model = translated.model_proto
    _name_the_batch(model)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.helper.set_model_props(model, {"kdprobe": network.description()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _name_the_batch(model: Any) -> None:
    """Call the dynamic dimension `batch`, as torch does not."""
    graph = model.graph
    generated = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == generated:
                dimension.dim_param = "batch"


def run_onnx(path: Path, _network: NetworkAlone) -> Runner:
    """The network in a file, run by ONNX Runtime if that is installed, else by the onnx package itself."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        name = f"onnx {version('onnx')} (onnxruntime is not installed)"
        return Runner(name, _forward(ReferenceEvaluator(str(path))), most=_FEW)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Runner(f"onnxruntime {onnxruntime.__version__}", _forward(session))


def _forward(session: Any) -> Any:
    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    return forward


def use_onnx(path: Path, _network: NetworkAlone) -> str:
    """How the file is used."""
    return f"onnxruntime.InferenceSession({str(path)!r}).run(None, {{'images': images}})"
