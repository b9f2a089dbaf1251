"""Distillation methods by name; each stands in a file of its own."""

from collections.abc import Mapping
from typing import Any

from kdprobe.config import Section
from kdprobe.distillers.at import AT
from kdprobe.distillers.base import Method as Method
from kdprobe.distillers.base import Progress as Progress
from kdprobe.distillers.base import check_needs, check_weight
from kdprobe.distillers.cakd import CAKD
from kdprobe.distillers.cat_kd import CATKD
from kdprobe.distillers.cc import CC
from kdprobe.distillers.cka import CKA
from kdprobe.distillers.crd import CRD
from kdprobe.distillers.cskd import CSKD
from kdprobe.distillers.deit import DeiT
from kdprobe.distillers.dist import DIST
from kdprobe.distillers.dkd import DKD
from kdprobe.distillers.dpk import DPK
from kdprobe.distillers.dropkd import DropKD
from kdprobe.distillers.eac import EAC
from kdprobe.distillers.fitnet import FitNet
from kdprobe.distillers.kd import KD
from kdprobe.distillers.logit_standard import LogitStandard
from kdprobe.distillers.mld import MLD
from kdprobe.distillers.nkd import NKD
from kdprobe.distillers.ofa import OFA
from kdprobe.distillers.pkt import PKT
from kdprobe.distillers.plain import Plain
from kdprobe.distillers.reviewkd import ReviewKD
from kdprobe.distillers.rkd import RKD
from kdprobe.distillers.rsd import RSD
from kdprobe.distillers.scn import SCN
from kdprobe.distillers.sdd import SDD
from kdprobe.distillers.sp import SP
from kdprobe.distillers.srd import SRD
from kdprobe.distillers.ttm import TTM, WTTM
from kdprobe.distillers.vid import VID
from kdprobe.distillers.wkd import WKD
from kdprobe.errors import ConfigError
from kdprobe.models.stages import Shapes
from kdprobe.packages import Choices, OfEach

__all__ = ["DISTILLERS", "KNOWN_METHODS", "Method", "Progress", "make_method", "option_types"]

DISTILLERS: dict[str, type[Method]] = {
    "plain": Plain,
    "kd": KD,
    "at": AT,
    "rkd": RKD,
    "fitnet": FitNet,
    "reviewkd": ReviewKD,
    "dkd": DKD,
    "mld": MLD,
    "ofa": OFA,
    "cskd": CSKD,
    "cakd": CAKD,
    "dpk": DPK,
    "crd": CRD,
    "dist": DIST,
    "logit_standard": LogitStandard,
    "nkd": NKD,
    "ttm": TTM,
    "wttm": WTTM,
    "sdd": SDD,
    "deit": DeiT,
    "cat_kd": CATKD,
    "wkd": WKD,
    "sp": SP,
    "pkt": PKT,
    "cc": CC,
    "vid": VID,
    "srd": SRD,
    "rsd": RSD,
    "cka": CKA,
    "dropkd": DropKD,
    "scn": SCN,
    "eac": EAC,
}


def _is_method(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Method)


#: with those of installed packages
KNOWN_METHODS: Mapping[str, type[Method]] = Choices(
    DISTILLERS,
    "kdprobe.methods",
    fits=_is_method,
    must_be="a class derived from kdprobe.distillers.Method",
    error=ConfigError,
)


def option_types() -> Mapping[str, type[Section]]:
    """The typed options of each method, for checking configurations.

    Example:
        >>> from kdprobe.distillers import option_types
        >>> option_types()["kd"]().model_dump()
        {'ce_weight': 0.1, 'kd_weight': 0.9, 'temperature': 4.0}
    """
    return OfEach(KNOWN_METHODS, lambda method: method.Options)


def make_method(
    settings: dict[str, Any], student: Shapes, teacher: Shapes | None, *, kind: type[Method] | None = None
) -> Method:
    """A method, checked against what the two networks offer.

    Args:
        settings: its name and options, as in the section `method`.
        student: sizes of the student's features.
        teacher: sizes of the teacher's features; None where the method has no teacher.
        kind: its class; the one of that name if not given.

    Raises:
        ModelError: if the method is not defined for this pair, or needs a classifier or labels that are not there.

    Example:
        >>> from kdprobe.distillers import make_method
        >>> from kdprobe.models import create
        >>> from kdprobe.models.stages import measure
        >>> student, teacher = (measure(create(name, n_classes=10, image_size=16)) for name in ("resnet8", "resnet14"))
        >>> make_method({"name": "kd", "temperature": 2}, student, teacher).options.temperature
        2.0
    """
    name = settings["name"]
    options = {key: value for key, value in settings.items() if key != "name"}
    kind = kind or KNOWN_METHODS[name]
    check_needs(name, kind, student, teacher)
    method = kind(kind.Options.model_validate(options), student, teacher)
    check_needs(name, method, student, teacher)
    check_weight(name, method)
    return method
