"""``tfmot.experimental``."""

from kompakt.tfmot.experimental import combine

__all__ = ["combine"]
