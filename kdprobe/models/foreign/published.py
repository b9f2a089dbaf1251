"""What timm knows by a name; timm is imported when it is asked, as that takes longer than to train a small network."""

from typing import Any

from kdprobe.errors import ModelError, near_matches


def is_timms(name: str) -> bool:
    """Whether timm has a network of this name, with the tag of published weights or without."""
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def published(name: str) -> Any:
    """What timm says of a network's published weights; None where it has none.

    Raises:
        ModelError: for an unknown name or tag.
    """
    import timm

    if not is_timms(name):
        raise ModelError(f"no timm model {name!r}{near_matches(name, timm.list_models())}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_pretrained(name.partition(".")[0] + ".*")
        raise ModelError(f"no timm model {name!r}{near_matches(name, tags)}") from error
