"""Distillation methods by name; each stands in a file of its own."""

from kdprobe.config import Section
from kdprobe.distillers.at import AT
from kdprobe.distillers.base import Method as Method
from kdprobe.distillers.base import Progress as Progress
from kdprobe.distillers.cakd import CAKD
from kdprobe.distillers.crd import CRD
from kdprobe.distillers.cskd import CSKD
from kdprobe.distillers.dist import DIST
from kdprobe.distillers.dkd import DKD
from kdprobe.distillers.dpk import DPK
from kdprobe.distillers.dropkd import DropKD
from kdprobe.distillers.eac import EAC
from kdprobe.distillers.fitnet import FitNet
from kdprobe.distillers.kd import KD
from kdprobe.distillers.logit_standard import LogitStandard
from kdprobe.distillers.mld import MLD
from kdprobe.distillers.ofa import OFA
from kdprobe.distillers.plain import Plain
from kdprobe.distillers.reviewkd import ReviewKD
from kdprobe.distillers.rkd import RKD
from kdprobe.distillers.scn import SCN

__all__ = ["DISTILLERS", "Method", "Progress", "option_types"]

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
    "dropkd": DropKD,
    "scn": SCN,
    "eac": EAC,
}


def option_types() -> dict[str, type[Section]]:
    """The typed options of each method, for checking configurations."""
    return {name: method.Options for name, method in DISTILLERS.items()}
