"""What targets that compute in floats share: no grids to compare, weights read back by their sites, a note, a seal."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kompakt.compare import zeros_and_distinct
from kompakt.errors import InputError
from kompakt.files import sha256
from kompakt.histogram import weight_histogram
from kompakt.records import Encoding, SiteFact
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.inline import inline
from kompakt.sites import sites
from kompakt.targets.notes import read_note
from kompakt.targets.target import Fault, Request, Target

NOTE = "kompakt.json"
"""The file of a folder in which kompakt's note and the digests of the other files are."""

LAST = (-1,)
"""The axes of a weight's channels where the note names none."""

TAKEN_OUT = Fault(place=NOTE, text="kompakt's note was taken out of the folder")


def note_of(request: Request, **more: Any) -> dict[str, Any]:
    """What a file says about itself: what was asked, which axes of a weight are its channels where not the last alone,
    and where it comes from.
    """
    asked = {site: [e.zeros, e.palette] for site, e in request.encodings.items() if e.zeros or e.palette}
    channels = {site.name: site.axis for site in sites(request.model) if site.variable is not None}
    elsewhere = {name: axes for name, axes in channels.items() if axes != LAST}
    kept: dict[str, Any] = {"asked": asked} if asked else {}
    kept |= {"channels": elsewhere} if elsewhere else {}
    return {"quantization": request.quantization, "io": "float32", **kept, **more, **request.provenance}


def sealed(files: Mapping[str, bytes], note: Mapping[str, Any]) -> dict[str, bytes]:
    """``files`` with the note, and with the digest of each of them in it.

    Example:
        >>> json.loads(sealed({"a": b""}, {"quantization": "float"})["kompakt.json"])["sha256"]["a"][:8]
        'e3b0c442'
    """
    digests = {name: sha256(content) for name, content in sorted(files.items())}
    text = json.dumps({**note, "sha256": digests}, indent=1)
    return {**files, NOTE: text.encode()}


def broken_seal(files: Mapping[str, bytes]) -> list[Fault]:
    """A fault for each file of a folder that is not as its note says, or that is missing or new.

    Example:
        >>> files = sealed({"a": b"1"}, {})
        >>> [str(fault) for fault in broken_seal({**files, "a": b"2"})]
        ['a: changed since it was written']
    """
    if NOTE not in files:
        return []
    try:
        digests = dict(json.loads(files[NOTE])["sha256"])
    except (KeyError, TypeError, ValueError):
        return [Fault(place=NOTE, text="the digests of the other files were taken out of it")]
    found = {name: sha256(content) for name, content in files.items() if name != NOTE}
    faults = [(n, "is missing") for n in digests if n not in found]
    faults += [(n, "was not there when it was written") for n in found if n not in digests]
    faults += [(n, "changed since it was written") for n in found if n in digests and found[n] != digests[n]]
    return [Fault(place=name, text=text) for name, text in faults]


class FloatTarget(Target):
    """A folder (or file) of a runtime that computes in floats."""

    usual_batch = None
    fixed_sizes = False

    @abstractmethod
    def weights(self, data: bytes) -> Mapping[str, np.ndarray]:
        """Site -> the weight that the artifact holds for it, as the runtime computes with it, in Keras' layout."""

    def dtype(self, data: bytes, site: str) -> str:
        """Type in which the weight of ``site`` is stored, as in a census."""
        return "FLOAT32"

    def activations(self, data: bytes) -> list[str]:
        return []

    def has(self, data: bytes, site: str) -> bool:
        return False

    def note(self, data: bytes) -> str | None:
        content = self.files(data).get(NOTE)
        return None if content is None else content.decode(errors="replace")

    def altered(self, data: bytes) -> list[Fault]:
        files = self.files(data)
        if NOTE not in files and self.is_ours(data):
            return [TAKEN_OUT]
        return broken_seal(files)

    def is_ours(self, data: bytes) -> bool:
        """Whether kompakt wrote the folder, by what is in its other files."""
        return False

    def unsound(self, data: bytes) -> list[Fault]:
        bad = {site: int((~np.isfinite(values)).sum()) for site, values in self.weights(data).items()}
        return [Fault(place=site, text=f"{count} values are NaN or infinite") for site, count in bad.items() if count]

    def regridded(self, data: bytes, encodings: Mapping[str, Encoding]) -> list[str]:
        return []

    def grid(self, data: bytes, site: str) -> Encoding | None:
        return None

    def weight(self, data: bytes, site: str, like: np.ndarray) -> np.ndarray | None:
        found = self.weights(data).get(site)
        return None if found is None else found.reshape(like.shape) if found.size == like.size else found

    def facts(self, data: bytes, encodings: Mapping[str, Encoding]) -> Sequence[SiteFact]:
        channels = read_note(self.note(data)).get("channels", {})
        return [
            self._fact(data, site, values, encodings.get(site, Encoding()), channels.get(site, LAST))
            for site, values in self.weights(data).items()
            if values.ndim > 1
        ]

    def _fact(self, data: bytes, site: str, values: np.ndarray, asked: Encoding, channels: Sequence[int]) -> SiteFact:
        if not set(channels) <= set(range(-values.ndim, values.ndim)):
            raise InputError(
                f"broken artifact: {site} has no axes {channels}, of which the note says so; make it again"
            )
        zeros, distinct = zeros_and_distinct(values, channels)
        return SiteFact(
            site=site,
            tensor=site,
            dtype=self.dtype(data, site),
            size=int(values.size),
            zeros=zeros,
            distinct=distinct,
            asked_zeros=asked.zeros,
            asked_palette=asked.palette,
            histogram=weight_histogram(values),
        )


def folded(model: keras.Model) -> keras.Model:
    """``model`` with each BatchNormalization in the layer before it, where that can be followed: converters do so too,
    and the kernel would not be found.
    """
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers()):
        return model
    try:
        return fold_batchnorm(inline(model)[0])[0]
    except InputError:
        return model


def check_mode(place: Target, quantization: str) -> None:
    """Raise where ``place`` has no such mode.

    Raises:
        InputError: it has none.
    """
    if quantization not in place.modes:
        raise InputError(f"quantization {quantization!r}: the target {place.name!r} has {', '.join(place.modes)}")
