"""Names of tfmot's wrappers on layers of any backend."""

import pytest

from kompakt.former_names import FormerNames


class Modules:
    """As torch's modules, which find what they hold in ``__getattr__``."""

    def __getattr__(self, name):
        if name == "transformed_layer":
            return "the layer inside"
        raise AttributeError(f"torch has no {name!r}")


class Layer(FormerNames, Modules):
    name = "d"


class Plain(FormerNames):
    @property
    def output(self):
        raise AttributeError("never been called")


def test_what_another_class_finds_is_found():
    assert Layer().transformed_layer == "the layer inside"
    with pytest.warns(UserWarning, match=r"'d'\.layer: its variables are those that train"):
        assert Layer().layer == "the layer inside"
    with pytest.raises(AttributeError, match="torch has no 'bogus'"):
        Layer().bogus  # noqa: B018
    with pytest.raises(AttributeError, match="'Layer' has no 'pruning_vars'"):
        Layer().pruning_vars  # noqa: B018


def test_a_propertys_own_error_stays():
    with pytest.raises(AttributeError, match="never been called"):
        Plain().output  # noqa: B018
    assert not hasattr(Plain(), "layer")
    with pytest.raises(AttributeError, match="'Plain' object has no attribute 'bogus'"):
        Plain().bogus  # noqa: B018
