"""Records to JSON and back, and the text that an artifact has for people."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompakt import records
from kompakt.errors import InputError
from kompakt.records import (
    Agreement,
    Artifact,
    Census,
    Deployment,
    Encoding,
    Measurement,
    Run,
    SiteFact,
    Trial,
    from_json,
    to_json,
)
from kompakt.records_bounds import IN_ORDER

KINDS = (Encoding, Measurement, Agreement, Census, SiteFact, Artifact, Deployment, Trial, Run)
LEAVES = {
    str: st.text(max_size=8),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
}


def values(kind):
    """A strategy for what a field of type ``kind`` may hold."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return bounded(*args)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(st.none() if a is type(None) else values(a) for a in args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=5), values(args[1]), max_size=2)
    return built(kind) if dataclasses.is_dataclass(kind) else LEAVES[kind]


def built(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    made = st.fixed_dictionaries({name: values(hint) for name, hint in hints.items()})
    return made.filter(together).map(lambda fields: kind(**fields))


def bounded(kind, bound):
    """Within the bound of an annotated type."""
    high = None if bound.high == math.inf else bound.high
    if kind is int:
        return st.integers(int(bound.low), 2**53 if high is None else int(high))
    return st.floats(bound.low, high, allow_nan=False, allow_infinity=False)


def together(fields):
    """Whether no field contradicts another."""
    pairs = [(fields.get(one), fields.get(other)) for one, other in IN_ORDER]
    return all(one is None or other is None or one <= other for one, other in pairs)


def test_a_list_of_numbers_is_one_line_and_texts_are_left_alone():
    text = "[\\n1,\\n 2]"
    record = Trial(recipe=text + "\n[\n1\n]", history={text: (1.0, -2.5e-07, 3.0)}, applied=("[1,  2]", "3"))
    lines = to_json(record).splitlines()
    assert any(line.endswith(": [1.0, -2.5e-07, 3.0]") for line in lines)
    assert from_json(Trial, to_json(record)) == record


def test_brackets_without_end_are_one_clear_error():
    with pytest.raises(InputError, match="not JSON"):
        from_json(Run, "[" * 200_000)
    with pytest.raises(InputError, match="not JSON"):
        from_json(Run, '{"seed": ' + "1" * 5000 + "}")


def artifact(**changes):
    census = Census(ops={"CONV_2D": 3, "ADD": 1}, tensors={"INT8": 9, "INT32": 3})
    known = {
        "path": "m.tflite",
        "target": "tflite",
        "quantization": "int8",
        "io": "int8",
        "bytes": 12345,
        "gzip_bytes": 2345,
        "sha256": "ab",
        "source_sha256": "cd",
        "census": census,
    }
    return Artifact(**{**known, **changes})


FACTS = (
    SiteFact(site="a/kernel", tensor="a/kernel", dtype="INT8", size=30, zeros=10, distinct=7, asked_zeros=9),
    SiteFact(site="b/kernel", tensor="t3", dtype="INT8", size=10, zeros=0, distinct=16, asked_palette=16),
    SiteFact(site="c/kernel", tensor="t4", dtype="INT8", size=10, zeros=5, distinct=2),
)


def test_every_record_is_tested_here():
    own = [r for r in vars(records).values() if dataclasses.is_dataclass(r) and r.__module__ == records.__name__]
    assert set(own) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_round_trip(kind, data):
    record = data.draw(built(kind))
    assert from_json(kind, to_json(record)) == record
    assert json.loads(to_json(record, indent=None)) == json.loads(to_json(record))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(Measurement(name="latency", value=value))
    text = json.dumps({"name": "latency", "value": value})
    with pytest.raises(InputError) as caught:
        from_json(Measurement, text)
    name = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    assert str(caught.value) == f"Measurement: holds {name}, which no record of kompakt does"


def test_records_are_frozen_and_by_keyword():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Encoding(bits=8).bits = 4
    with pytest.raises(TypeError, match="positional"):
        Measurement("latency", 1.0)


TRIAL = '{"recipe": "r", "measurements": %s}'


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            Measurement,
            "{",
            "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): "
            "expected a Measurement record written by kompakt",
        ),
        (Measurement, "[1]", "Measurement: expected an object, received list"),
        (
            Measurement,
            '{"name": "a", "value": 1, "units": "ms"}',
            "Measurement: unknown key 'units'; known: name, value, unit, where, low, high, interval",
        ),
        (
            Trial,
            TRIAL % '[{"name": "a", "valu": 1}]',
            "Trial.measurements[0]: unknown key 'valu'; known: name, value, unit, where, low, high, interval",
        ),
        (Trial, TRIAL % "3", "Trial.measurements: expected a list, received int"),
        (Trial, TRIAL % '["a"]', "Trial.measurements[0]: expected an object, received str"),
        (Trial, '{"recipe": "r", "history": [1]}', "Trial.history: expected an object, received list"),
        (Trial, '{"recipe": "r", "applied": "rule"}', "Trial.applied: expected a list, received str"),
        (Trial, '{"recipe": 3}', "Trial.recipe: expected str, received int"),
        (Measurement, '{"name": "a", "value": "1"}', "Measurement.value: expected float, received str"),
        (Measurement, '{"name": "a", "value": true}', "Measurement.value: expected float, received bool"),
        (Encoding, '{"bits": 8.5}', "Encoding.bits: expected int, received float"),
        (Encoding, '{"symmetric": 1}', "Encoding.symmetric: expected bool, received int"),
        (Encoding, '{"zero_point": [0.5]}', "Encoding.zero_point[0]: expected int, received float"),
    ],
)
def test_what_cannot_be_read(kind, text, message):
    with pytest.raises(InputError) as caught:
        from_json(kind, text)
    assert str(caught.value) == message


def test_a_missing_key():
    with pytest.raises(InputError, match=r"^Measurement: lacks 'value'$"):
        from_json(Measurement, '{"name": "a"}')


KNOWN = {"path": "m", "target": "t", "quantization": "int8", "io": "int8", "sha256": "", "source_sha256": ""}
EMPTY = {"ops": {}, "tensors": {}}
SITE = {"site": "a", "tensor": "a", "dtype": "INT8", "size": 3, "zeros": 1, "distinct": 3}
AGREED = {"samples": 9, "argmax": 1.0, "max_abs": 0.0, "exact": 1.0}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            Artifact,
            {**KNOWN, "bytes": 10**400, "gzip_bytes": 1, "census": EMPTY},
            "Artifact.bytes: received a whole number of 401 digits, expected one of 64 bits",
        ),
        (
            Artifact,
            {**KNOWN, "bytes": -1, "gzip_bytes": 1, "census": EMPTY},
            "Artifact.bytes: received -1, expected 0 or more",
        ),
        (
            Artifact,
            {**KNOWN, "bytes": 1, "gzip_bytes": 1, "census": {**EMPTY, "ops": {"ADD": -2}}},
            "Artifact.census.ops.ADD: received -2, expected 0 or more",
        ),
        (Measurement, {"name": "a", "value": 10**400}, "Measurement.value: received a whole number of 401 digits"),
        (Agreement, {**AGREED, "samples": -3}, "Agreement.samples: received -3, expected 0 or more"),
        (Agreement, {**AGREED, "argmax": 1.01}, "Agreement.argmax: received 1.01, expected from 0 to 1"),
        (SiteFact, {**SITE, "zeros": 4}, "SiteFact: received zeros 4 and size 3, expected zeros at most as large"),
        (Encoding, {"bits": 0}, "Encoding.bits: received 0, expected from 1 to 64"),
        (Deployment, {"target": "t", "spread": -0.5}, "Deployment.spread: received -0.5, expected 0 or more"),
        (Trial, {"recipe": "r", "seconds": -1}, "Trial.seconds: received -1.0, expected 0 or more"),
        (
            Measurement,
            {"name": "a", "value": 1, "low": 2.0, "high": 1.0},
            "Measurement: received low 2.0 and high 1.0, expected low at most as large as high",
        ),
        (
            Trial,
            {"recipe": "r", "measurements": [{"name": "accuracy_litert", "value": 97.5}]},
            "Trial.measurements[0].value: received 97.5, expected from 0 to 1 of accuracy_litert",
        ),
        (
            Trial,
            {"recipe": "r", "measurements": [{"name": "accuracy", "value": 0.5, "low": -0.1, "high": 0.9}]},
            "Trial.measurements[0].low: received -0.1, expected from 0 to 1 of accuracy",
        ),
        (
            Artifact,
            {**KNOWN, "bytes": 1, "gzip_bytes": 1, "census": EMPTY, "measurements": [{"name": "arena", "value": -1}]},
            "Artifact.measurements[0].value: received -1.0, expected 0 or more of arena",
        ),
        (
            Trial,
            {"recipe": "r", "measurements": [{"name": "latency_ratio_spread", "value": -0.1}]},
            "Trial.measurements[0].value: received -0.1, expected 0 or more of latency_ratio_spread",
        ),
        (Trial, {"recipe": "a\ud800"}, "Trial.recipe: holds half of a character ('\\ud800'), expected text"),
        (Trial, {"recipe": "a", "history": {"\udfff": []}}, "Trial.history: holds half of a character ('\\udfff')"),
    ],
)
def test_what_no_measurement_gives_is_refused(kind, fields, message):
    with pytest.raises(InputError) as caught:
        from_json(kind, json.dumps(fields))
    assert str(caught.value).startswith(message)


def test_infinity_by_the_back_door():
    with pytest.raises(InputError, match=r"^Measurement.value: received inf, expected a finite number$"):
        from_json(Measurement, '{"name": "a", "value": 1e999}')


def test_every_character_can_be_ascii():
    text = to_json(Trial(recipe="größe \u202e"), only_ascii=True)
    assert text.isascii() and from_json(Trial, text).recipe == "größe \u202e"


def test_a_whole_number_is_a_number():
    found = from_json(Measurement, '{"name": "a", "value": 3}')
    assert found.value == 3.0 and isinstance(found.value, float)


# What records say of themselves


def test_sums_over_the_weights_of_a_file():
    held = artifact(sites=FACTS)
    assert held.zeros == pytest.approx(15 / 50) and held.distinct == 16
    assert artifact().zeros == 0.0 and artifact().distinct == 0


def test_a_value_of_a_trial_by_name():
    trial = Trial(recipe="r", measurements=(Measurement(name="a", value=1.0), Measurement(name="b", value=2.0)))
    assert trial.value("b") == 2.0
    assert trial.value("c") is None and trial.value("c", 5.0) == 5.0


def test_the_artifact_of_a_run_is_that_of_its_last_trial():
    first, last = artifact(path="first"), artifact(path="last")
    run = Run(title="t", trials=(Trial(recipe="float", artifact=first), Trial(recipe="r", artifact=last)))
    assert run.artifact == last
    assert Run(title="t", trials=()).artifact is None


def test_the_report_of_an_artifact():
    agreement = Agreement(
        samples=256, argmax=0.99609375, max_abs=0.0625, exact=0.915, lsb=0.0625, max_lsb=1.0, trained_argmax=0.984375
    )
    held = artifact(sites=FACTS, agreement=agreement, notes=("one note",), breaches=("one breach",))
    assert held.report.splitlines() == [
        "m.tflite: tflite, int8, int8 I/O",
        "  size       12,345 bytes, 2,345 gzipped",
        "  operators  1 ADD, 3 CONV_2D",
        "  tensors    3 INT32, 9 INT8",
        "  weights    30.0% zeros, at most 16 distinct values a channel",
        "  asked      a/kernel: >= 9 zeros; held: 10 zeros, 7 values a channel",
        "  asked      b/kernel: <= 16 values a channel; held: 0 zeros, 16 values a channel",
        "  agreement  argmax 0.9961 with the simulation on 256 samples, 91.5% of outputs equal, "
        "largest difference 0.0625; 1.00 LSB at output",
        "             argmax 0.9844 with the fake-quantized model",
        "  note       one note",
        "  BREACH     one breach",
    ]


def test_the_report_of_a_file_about_which_little_is_known():
    held = artifact(agreement=Agreement(samples=4, argmax=1.0, max_abs=0.0, exact=1.0, reference="float model"))
    assert held.report.splitlines()[4:] == [
        "  agreement  argmax 1.0000 with the float model on 4 samples, 100.0% of outputs equal, largest difference 0"
    ]
    assert len(artifact().report.splitlines()) == 4
