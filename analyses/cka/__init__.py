"""Centred kernel alignment (CKA) of two networks, layer by layer."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.cka.epochs import cka_over_time as cka_over_time
    from analyses.cka.feature_corrected import feature_corrected_cka as feature_corrected_cka
    from analyses.cka.networks import cka as cka
    from analyses.cka.networks import minibatch_cka as minibatch_cka
    from analyses.cka.networks import views_cka as views_cka
    from analyses.cka.result import CKAResult as CKAResult
    from analyses.cka.stored import files_cka as files_cka

__all__ = ["CKAResult", "cka", "cka_over_time", "feature_corrected_cka", "files_cka", "minibatch_cka", "views_cka"]

__getattr__, __dir__ = face(
    __name__,
    {
        "CKAResult": "analyses.cka.result",
        "cka": "analyses.cka.networks",
        "cka_over_time": "analyses.cka.epochs",
        "feature_corrected_cka": "analyses.cka.feature_corrected",
        "files_cka": "analyses.cka.stored",
        "minibatch_cka": "analyses.cka.networks",
        "views_cka": "analyses.cka.networks",
    },
)
