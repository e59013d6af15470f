"""The command line reads .h5 files, and says what it mended."""

import json

import numpy as np

from kompakt.cli import main


def test_a_file_of_keras_2_is_judged(written, tmp_path, capsys, caplog):
    x = np.random.default_rng(0).normal(size=(20, 6, 3)).astype("float32")
    data = {
        f"{end}_{part}": each for part in ("train", "test") for end, each in (("x", x), ("y", np.zeros((20, 4), "f4")))
    }
    data["x_train"] = x + 1
    np.savez(tmp_path / "d.npz", **data)
    file = str(written / "keras2" / "recurrent.h5")
    assert main(["evaluate", file, "--data", str(tmp_path / "d.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["thing"] == file
    said = [each.getMessage() for each in caplog.records if each.name == "kompakt.keras2"]
    assert any("key 'time_major' (False) left out" in each for each in said)


def test_a_file_of_keras_2_becomes_an_int8_file(written, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype("float32")
    y = np.zeros(64, "int64")
    np.savez(tmp_path / "d.npz", x_train=x[:32], y_train=y[:32], x_test=x[32:], y_test=y[32:])
    file, out = str(written / "keras2_old" / "tf115_mobile.h5"), tmp_path / "m.tflite"
    code = main(["export", file, str(out), "--quantization", "int8", "--data", str(tmp_path / "d.npz")])
    assert (code, capsys.readouterr().err) == (0, "")
    assert out.stat().st_size > 1000
