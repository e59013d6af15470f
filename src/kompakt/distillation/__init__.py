"""Knowledge distillation: a small student learns from a large teacher, over ``keras.distillation``."""

from __future__ import annotations

from kompakt.distillation.cache import CachedTeacher
from kompakt.distillation.layer_terms import Attention, Hints, Relational
from kompakt.distillation.teachers import Ensemble
from kompakt.distillation.terms import Decoupled, SoftTargets

__all__ = ["Attention", "CachedTeacher", "Decoupled", "Ensemble", "Hints", "Relational", "SoftTargets"]
