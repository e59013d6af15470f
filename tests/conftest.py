"""Settings of hypothesis (the first call of an operation is slow, and a run has to be like the last) and of the
garbage collector.
"""

import gc
import sys
from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("kompakt", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("kompakt")


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
