"""Damaged files: whatever byte is wrong, the error has one line and says so."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.records import from_json, to_json
from kompakt.targets import find_target
from kompakt.targets.tflite_file import TFLiteFile, census


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "m.tflite"
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(3)])
    kp.export(model, path, quantization="int8", calibration=x)
    return path.read_bytes()


def readings(data):
    """What ``verify_file`` reads out of a file before it is run."""
    place = find_target("tflite")
    found = census(data)
    assert from_json(type(found), to_json(found)) == found
    return place.facts(data, {}), place.note(data), place.activations(data)


def test_every_byte_of_the_structure_may_be_wrong(data):
    random = np.random.default_rng(0)
    readings(data)
    said = set()
    for at in range(8, len(data), 3):
        spoiled = bytearray(data)
        spoiled[at] ^= int(random.integers(1, 256))
        try:
            readings(bytes(spoiled))
        except kp.InputError as error:
            said.add(str(error))
    assert len(said) > 10
    assert all(text.startswith(("broken TFLite file (", "not a TFLite file (")) for text in said)


@pytest.mark.parametrize("kind", ["opcode", "type", "input", "output"])
def test_what_is_not_known_is_said(data, kind):
    file = TFLiteFile(data)
    operator = file.graph.operators[0]
    if kind == "opcode":
        code = file.model.operatorCodes[operator.opcodeIndex]
        code.builtinCode, code.deprecatedBuiltinCode = 9999, 127
    elif kind == "type":
        file.graph.tensors[0].type = 99
    elif kind == "input":
        operator.inputs = [77, *operator.inputs[1:]]
    else:
        operator.outputs = []
    text = {
        "opcode": "unknown type or operator 9999",
        "type": "unknown type or operator 99",
        "input": "an operator has a tensor that is not there",
        "output": "an operator makes no tensor",
    }[kind]
    with pytest.raises(kp.InputError, match=rf"^broken TFLite file \(\d+ bytes\): {text}; make it again$"):
        census(file.pack())
