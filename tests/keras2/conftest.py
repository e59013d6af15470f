"""The models that tests/data/make_keras2.py and make_keras2_old.py had real Keras 2 write."""

import zipfile
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folder with the files, and numbers.npz of what the models predict."""
    folder = tmp_path_factory.mktemp("keras2")
    for name in ("keras2", "keras2_old"):
        with zipfile.ZipFile(DATA / f"{name}.zip") as pack:
            pack.extractall(folder / name)
    return folder
