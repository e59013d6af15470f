"""Once this is imported, Keras knows every class of kompakt that a saved model may hold."""

from __future__ import annotations

import kompakt.attach
import kompakt.tfmot
import kompakt.transforms  # noqa: F401
from kompakt.loading import load_model as load_model

__all__ = ["load_model"]
