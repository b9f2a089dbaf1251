"""`kdprobe list layers`; everything heavy is imported when it runs."""

from typing import Any

import click

from kdprobe.cli.options import facts_options, layers_option, trust_option
from kdprobe.terminal import echo


@click.command("layers")
@click.argument("spec", metavar="MODEL")
@layers_option(
    "Layer to list: a name, a glob, stages, leaves or all; ! in front leaves out; repeatable.",
    "GLOB",
    default=("all",),
    show_default=True,
)
@facts_options
@trust_option
def list_layers(spec: str, layers: tuple[str, ...], told: dict[str, Any]) -> None:
    """List the layers of a network.

    MODEL is a run folder, a checkpoint file, NAME@FILE, timm:NAME, the name of a network, or module:callable. Shapes
    are those of the outputs for one image. Names are what --layers of other commands takes, and model.stages,
    model.classifier and training.freeze of a configuration.

    \b
    Example:
      kdprobe list layers resnet18 --layers stages
      kdprobe list layers vit_small_patch14_dinov2@dino.safetensors --classes 0 --image-size 98
    """
    import pandas as pd

    from kdprobe.models import model_info
    from kdprobe.models.creation import count_parameters
    from kdprobe.models.layer_table import layer_table
    from kdprobe.models.named import models_of

    (model,) = models_of([spec], told)
    rows, reason = layer_table(model, layers)
    columns = {
        "layer": [row.name for row in rows],
        "kind": [row.kind for row in rows],
        "output": [row.shape for row in rows],
        "layout": [row.layout for row in rows],
        "parameters": [f"{row.parameters:,}" for row in rows],
        "role": [row.role for row in rows],
    }
    echo(pd.DataFrame(columns).to_string(index=False))
    info = model_info(model)
    head = f"{info.n_classes} classes" if info.n_classes else "no classifier"
    echo(f"{info.name}: {count_parameters(model):,} parameters, images of {info.image_size} px, {head}")
    if reason:
        echo(f"note: {reason}", err=True)
