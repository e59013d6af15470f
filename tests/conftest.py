"""Settings of hypothesis (the first call of an operation is slow, and a run has to be like the last) and of the
garbage collector.
"""

import gc
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("kompakt", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("kompakt")


collect_ignore = ["data"]  # fixtures, and the programs of other environments that made them


def pytest_collection_modifyitems(items):
    """Of a test marked ``long(quick=3)`` all cases but the first three are slow."""
    seen = Counter()
    for item in items:
        mark = item.get_closest_marker("long")
        if mark is not None:
            seen[item.nodeid.split("[")[0]] += 1
            if seen[item.nodeid.split("[")[0]] > mark.kwargs["quick"]:
                item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Leave the objects of the libraries out of every collection to come: they are a million, and each conversion
    by TensorFlow goes through all objects, which takes half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_scope_left_open():
    """Keras' list of open name scopes is empty after each test: what is left there names the weights of later ones."""
    yield
    if "keras" in sys.modules:
        from keras.src.backend.common import global_state

        left = [scope.name for scope in global_state.get_global_attribute("name_scope_stack") or []]
        global_state.set_global_attribute("name_scope_stack", [])
        assert left == []


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folder with the files that make_keras2.py, _more.py and _old.py of data/ had real Keras 2 write."""
    folder = tmp_path_factory.mktemp("keras2")
    for name in ("keras2", "keras2_more", "keras2_old", "tf_keras216", "tf_keras221"):
        with zipfile.ZipFile(Path(__file__).parent / "data" / f"{name}.zip") as pack:
            pack.extractall(folder / name)
    return folder


@pytest.fixture(scope="session")
def same():
    """Checks that a model predicts what that of this name predicted in Keras 2, to float rounding."""
    import keras
    import numpy as np

    from kompakt.graph import symbolic_inputs

    def check(model, folder, name, limit=2e-6):
        numbers = np.load(folder / "numbers.npz")
        inputs, before = ([numbers[key] for key in numbers if key.startswith(f"{name}/{end}")] for end in "xy")
        given = keras.tree.pack_sequence_as(symbolic_inputs(model), inputs) if len(inputs) > 1 else inputs[0]
        now = keras.tree.flatten(model.predict(given, batch_size=4, verbose=0))
        assert [each.shape for each in now] == [each.shape for each in before]
        for ours, theirs in zip(now, before, strict=True):
            assert float(np.max(np.abs(ours - theirs))) <= limit * max(1.0, float(np.max(np.abs(theirs))))

    return check
