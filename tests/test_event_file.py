"""Files for TensorBoard: what they hold, and what is refused."""

import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from kompakt.errors import InputError
from kompakt.event_file import EventFile


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def values(found, tag):
    return {event.step: tensor_util.make_ndarray(event.tensor_proto) for event in found.Tensors(tag)}


def test_what_is_written_is_read(tmp_path):
    file = EventFile(tmp_path / "new" / "logs")
    buckets = np.array([[-0.5, 0.5, 3.0], [0.5, 1.5, 1.0]])
    file.write(5, {"a": 0.25, "b/ü <script>": float("nan")}, {"grid/a": buckets})
    file.write(2**40, {"a": 1})
    found = read(tmp_path / "new" / "logs")
    assert values(found, "a") == {5: 0.25, 2**40: 1.0} and np.isnan(values(found, "b/ü <script>")[5])
    assert np.array_equal(values(found, "grid/a")[5], buckets)
    kinds = {tag: found.SummaryMetadata(tag).plugin_data.plugin_name for tag in ("a", "grid/a")}
    assert kinds == {"a": "scalars", "grid/a": "histograms"}


def test_charts_of_several_tags(tmp_path):
    EventFile(tmp_path).arrange({"sparsity": "sparsity(/.*)?$"})
    (tag,) = read(tmp_path).Tags()["tensors"]
    (event,) = read(tmp_path).Tensors(tag)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    (chart,) = layout.category[0].chart
    assert chart.title == "sparsity" and list(chart.multiline.tag) == ["sparsity(/.*)?$"]


def test_two_files_of_a_folder_at_once(tmp_path):
    first, second = EventFile(tmp_path), EventFile(tmp_path)
    assert first.path.name < second.path.name
    first.write(1, {"a": 1.0})
    second.write(2, {"a": 2.0})
    assert values(read(tmp_path), "a") == {1: 1.0, 2: 2.0}


def test_nothing_to_write_leaves_no_file(tmp_path):
    EventFile(tmp_path).write(0, {})
    assert not list(tmp_path.iterdir())


def test_where_tensorboard_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError) as caught:
        EventFile(tmp_path)
    assert str(caught.value) == "TensorBoard is not installed: pip install 'kompakt[tensorboard]'"


def test_a_folder_that_is_not_on_this_machine():
    with pytest.raises(InputError) as caught:
        EventFile("gs://bucket/logs")
    assert str(caught.value) == (
        "log_dir 'gs://bucket/logs': expected a folder on this machine; copy it to where it shall be"
    )


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(InputError, match="cannot write to the folder"):
        EventFile(tmp_path / "logs")
