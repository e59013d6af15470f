"""Recipes: the shipped ones, what a mistyped one is told, and what a stage does with a model."""

import json
import logging

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as L

import kompakt as kp
from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.recipe import Recipe, load_recipe, recipe_names, to_dict
from kompakt.stages import Rule, Stage, start_stage
from kompakt.targets import TARGETS, find_target
from kompakt.targets.words import MODES, SUFFIXES, WORDS
from kompakt.transforms import Cluster, FakeQuant, Prune

SHIPPED = [
    "cluster_ptq_int8",
    "cqat_int8",
    "distill",
    "distill_pqat_int8",
    "distill_qat_int8",
    "float",
    "pcqat_int8",
    "pqat_int8",
    "prune_2_4_ptq_int8",
    "prune_cluster_ptq_int8",
    "prune_ptq_int8",
    "ptq_dynamic_int8",
    "ptq_float16",
    "ptq_int16x8",
    "ptq_int8",
    "ptq_w4a8",
    "ptq_weight_only_int8",
    "qat_int16x8",
    "qat_int8",
    "qat_w4a8",
    "shrink_ptq_int8",
    "shrink_qat_int8",
]


def recipe(**changes):
    return {"name": "mine", **changes}


def staged(**stage):
    return recipe(stages=[stage])


def ruled(*transforms, **rule):
    return staged(rules=[{"transforms": list(transforms), **rule}])


def scheduled(**schedule):
    return ruled({"name": "Prune", "sparsity": 0.5, "schedule": schedule})


POLYNOMIAL = {"name": "Polynomial", "initial": 0.0, "final": 0.5, "begin": 0, "end": 10}


def refused(given):
    with pytest.raises(InputError) as caught:
        load_recipe(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The shipped recipes


def test_names():
    assert recipe_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_and_comes_back(name, tmp_path):
    loaded = load_recipe(name)
    assert loaded.name == name and loaded.about.endswith(".")
    assert load_recipe(to_dict(loaded)) == loaded == load_recipe(loaded)
    (tmp_path / "r.json").write_text(json.dumps(to_dict(loaded)))
    assert load_recipe(tmp_path / "r.json") == load_recipe(str(tmp_path / "r.json")) == loaded


@pytest.mark.parametrize("name", SHIPPED)
def test_the_name_of_a_shipped_recipe_decodes(name):
    """What the name says is what it does, and no more."""
    loaded = load_recipe(name)
    transforms = {spec["name"] for stage in loaded.stages for rule in stage.rules for spec in rule.transforms}
    words = set(name.split("_"))
    assert ("Prune" in transforms) == bool(words & {"prune", "pqat", "pcqat"})
    assert ("Cluster" in transforms) == bool(words & {"cluster", "cqat", "pcqat"})
    assert any(stage.shrink for stage in loaded.stages) == ("shrink" in words)
    assert any(stage.distill is not None for stage in loaded.stages) == ("distill" in words)
    assert name in ("float", "distill") or name.endswith(loaded.quantization)
    qat = [stage.train > 0 for stage in loaded.stages if stage.quantize is not None]
    assert any(qat) == ("qat" in name)
    assert any(stage.train for stage in loaded.stages) == (loaded.epochs > 0)


# Round trip

SHARES = st.floats(0, 0.99)
STEPS = st.integers(0, 50)
SCHEDULES = st.one_of(
    st.builds(lambda v, b: {"name": "Constant", "value": v, "begin": b}, SHARES, STEPS),
    st.builds(lambda v, b, n: {**POLYNOMIAL, "final": v, "begin": b, "end": b + n}, SHARES, STEPS, st.integers(1, 50)),
    st.builds(lambda b, f: {**POLYNOMIAL, "unit": "share", "begin": b, "end": 1.0, "frequency": f}, SHARES, st.just(3)),
)
SPECS = st.one_of(
    st.builds(lambda s: {"name": "Prune", "sparsity": s}, SHARES),
    SCHEDULES.map(lambda s: {"name": "Prune", "sparsity": s.get("value", s.get("final")), "schedule": s}),
    st.fixed_dictionaries(
        {"name": st.just("Cluster"), "clusters": st.integers(2, 64)},
        optional={
            "start": st.sampled_from(["linear", "kmeans++", "density", "random"]),
            "per_channel": st.booleans(),
            "pin_zero": st.sampled_from([True, False, None]),
            "seed": st.integers(0, 9),
        },
    ),
    st.fixed_dictionaries({"name": st.just("FakeQuant")}, optional={"bits": st.integers(2, 16)}),
)
RULES = st.fixed_dictionaries(
    {"transforms": st.lists(SPECS, min_size=1, max_size=3)}, optional={"sites": st.text("abc*?/[]", max_size=6)}
)
COMMON = {"train": st.floats(0, 9), "learning_rate": st.floats(1e-6, 1.0)}
STAGES = st.one_of(
    st.fixed_dictionaries({"rules": st.lists(RULES, min_size=1, max_size=2)}, optional=COMMON),
    st.fixed_dictionaries(
        {"quantize": st.sampled_from(["int8", "dynamic_int8"])},
        optional={
            **COMMON,
            "options": st.fixed_dictionaries(
                {}, optional={"ranges": st.sampled_from(["minmax", "moving_average"]), "momentum": SHARES}
            ),
        },
    ),
)
RECIPES = st.fixed_dictionaries(
    {"name": st.text("abcz_0é", min_size=1, max_size=9), "stages": st.lists(STAGES, max_size=3)},
    optional={
        "about": st.text(max_size=9),
        "epochs": st.integers(0, 99),
        "quantization": st.sampled_from(["float", "float16", "dynamic_int8", "int8"]),
        "io": st.sampled_from([None, "int8", "uint8", "float32"]),
        "target": st.just("tflite"),
    },
)


@given(RECIPES)
def test_round_trip(data):
    before = json.dumps(data)
    loaded = load_recipe(data)
    assert json.dumps(data) == before  # a caller's mapping is not changed
    assert load_recipe(to_dict(loaded)) == loaded
    assert load_recipe(json.loads(json.dumps(to_dict(loaded)))) == loaded
    for key, value in data.items():
        if key != "stages":
            assert getattr(loaded, key) == value
    assert len(loaded.stages) == len(data["stages"])


# What is refused: keys, words, types, values


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (recipe(epoch=3), "recipe: unknown key 'epoch'; nearest: 'epochs'"),
        (staged(rule=[]), "recipe, stage 1: unknown key 'rule'; nearest: 'rules'"),
        (
            recipe(stages=[{"quantize": "int8"}, {"quantize": "int8", "trian": 1}]),
            "recipe, stage 2: unknown key 'trian'; nearest: 'train'",
        ),
        (
            ruled({"name": "Prune"}, site="*"),
            "recipe, stage 1, rule 1: unknown key 'site'; nearest: 'sites'",
        ),
        (
            staged(quantize="int8", options={"range": "minmax"}),
            "recipe, stage 1: unknown option 'range'; nearest: 'ranges'",
        ),
        (
            ruled({"name": "Prune", "sparcity": 0.5}),
            "recipe, stage 1, rule 1, Prune: unknown option 'sparcity'; nearest: 'sparsity'",
        ),
        (
            ruled({"name": "Cluster", "clusters": 4, "schedule": POLYNOMIAL}),
            "recipe, stage 1, rule 1, Cluster: unknown option 'schedule'; nearest: 'seed'",
        ),
        (
            scheduled(**POLYNOMIAL, finish=0.5),
            "recipe, stage 1, rule 1, Prune, schedule: unknown key 'finish'; nearest: 'final'",
        ),
        (
            recipe(colour="red"),
            "recipe: unknown key 'colour'; known: about, epochs, io, name, quantization, sparse, stages, target",
        ),
    ],
)
def test_a_mistyped_key(given, text):
    assert refused(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (ruled({"name": "Prun"}), "recipe, stage 1, rule 1: unknown transform 'Prun'; nearest: 'Prune'"),
        (ruled({"name": "x"}), "recipe, stage 1, rule 1: unknown transform 'x'; known: Cluster, FakeQuant, Prune"),
        (ruled({"sparsity": 0.5}), "recipe, stage 1, rule 1: unknown transform None; known: Cluster, FakeQuant, Prune"),
        (ruled({"name": ["Prune"]}), "recipe, stage 1, rule 1: unknown transform ['Prune']; nearest: 'Prune'"),
        (ruled("Prunes"), "recipe, stage 1, rule 1: unknown transform 'Prunes'; nearest: 'Prune'"),
        (staged(quantize="int9"), "recipe, stage 1: 'quantize' is 'int9'; nearest: 'int8'"),
        (recipe(quantization="dynamic"), "recipe: 'quantization' is 'dynamic'; nearest: 'dynamic_int8'"),
        (recipe(io="uint"), "recipe: 'io' is 'uint'; nearest: 'uint8'"),
        (recipe(target="tflight"), "recipe: 'target' is 'tflight'; nearest: 'tflite'"),
        (
            staged(quantize="int8", options={"ranges": "min_max"}),
            "recipe, stage 1: 'ranges' is 'min_max'; nearest: 'minmax'",
        ),
        (
            staged(quantize="int8", options={"method": "average"}),
            "recipe, stage 1: 'method' is 'average'; nearest: 'moving_average'",
        ),
        (
            scheduled(**{**POLYNOMIAL, "name": "Polynom"}),
            "recipe, stage 1, rule 1, Prune, schedule: unknown schedule 'Polynom'; nearest: 'Polynomial'",
        ),
        (
            scheduled(**{**POLYNOMIAL, "unit": "shares"}),
            "recipe, stage 1, rule 1, Prune, schedule: 'unit' is 'shares'; nearest: 'share'",
        ),
        (
            ruled({"name": "Cluster", "clusters": 4, "start": "densest"}),
            "recipe, stage 1, rule 1, Cluster: start 'densest': expected one of linear, kmeans++, density, random",
        ),
    ],
)
def test_an_unknown_word(given, text):
    assert refused(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (recipe(name=3), "recipe: 'name' is 3, expected a text"),
        (recipe(epochs=1.5), "recipe: 'epochs' is 1.5, expected a whole number"),
        (recipe(epochs=True), "recipe: 'epochs' is True, expected a whole number"),
        (recipe(stages={"quantize": "int8"}), "recipe: 'stages' is dict, expected a list"),
        (
            recipe(stages=[{"quantize": "keras_int8"}]),
            "recipe, stage 1: 'quantize' is 'keras_int8', which is for servers, and a recipe ends in a TFLite file: "
            "kompakt.quantize(model, mode), then model.export(folder)",
        ),
        (recipe(stages=["qat"]), "recipe, stage 1: received str, expected an object"),
        (staged(quantize="int8", train="1"), "recipe, stage 1: 'train' is '1', expected a number"),
        (staged(quantize="int8", options=["a"]), "recipe, stage 1: 'options' is ['a'], expected an object"),
        (
            staged(quantize="int8", options={"momentum": "0.9"}),
            "recipe, stage 1: 'momentum' is '0.9', expected a number",
        ),
        (ruled({"name": "Prune"}, sites=["a"]), "recipe, stage 1, rule 1: 'sites' is ['a'], expected a text"),
        (
            ruled({"name": "Prune", "sparsity": "0.5"}),
            "recipe, stage 1, rule 1, Prune: 'sparsity' is '0.5', expected a number",
        ),
        (
            ruled({"name": "Prune", "schedule": "Constant"}),
            "recipe, stage 1, rule 1, Prune: 'schedule' is 'Constant', expected an object",
        ),
        (
            ruled({"name": "Cluster", "clusters": 16.0}),
            "recipe, stage 1, rule 1, Cluster: 'clusters' is 16.0, expected a whole number",
        ),
        (
            ruled({"name": "Cluster", "clusters": 4, "per_channel": "yes"}),
            "recipe, stage 1, rule 1, Cluster: 'per_channel' is 'yes', expected true or false",
        ),
        (
            ruled({"name": "FakeQuant", "bits": True}),
            "recipe, stage 1, rule 1, FakeQuant: 'bits' is True, expected a whole number",
        ),
        (
            scheduled(**{**POLYNOMIAL, "final": "half"}),
            "recipe, stage 1, rule 1, Prune, schedule: 'final' is 'half', expected a number",
        ),
    ],
)
def test_a_wrong_type(given, text):
    assert refused(given) == text


WHOLE = 'expected a whole number of steps; shares of the training are for recipes, with "unit": "share"'


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "recipe: the key 'name' is missing"),
        *(
            (recipe(name=name), f"recipe: 'name' is {name!r}, expected a text that can name a file, such as 'my_int8'")
            for name in ("", "..", "../escape", "a/b", "a\\b", "a\0b", ".hidden", "a" * 101)
        ),
        (recipe(epochs=-1), "recipe: 'epochs' is -1, expected 0 or more"),
        (staged(), "recipe, stage 1: expected rules, quantize or shrink, one of the three, or distill"),
        (
            staged(quantize="int8", rules=[{"transforms": [{"name": "Prune"}]}]),
            "recipe, stage 1: expected rules, quantize or shrink, one of the three, or distill",
        ),
        (
            staged(rules=[{"transforms": [{"name": "Prune"}]}], options={"momentum": 0.9}),
            "recipe, stage 1: 'options' are those of 'quantize', which this stage has not",
        ),
        (
            staged(rules=[{"sites": "*"}]),
            "recipe, stage 1, rule 1: 'transforms' is missing or empty; known: Prune, Cluster, FakeQuant",
        ),
        (staged(quantize="int8", train=-0.5), "recipe, stage 1: 'train' is -0.5, expected a share of 0 or more"),
        (
            staged(quantize="int8", train=float("nan")),
            "recipe, stage 1: 'train' is nan, expected a share of 0 or more",
        ),
        (staged(quantize="int8", learning_rate=0), "recipe, stage 1: 'learning_rate' is 0, expected more than 0"),
        (
            staged(quantize="int8", options={"momentum": 1.0}),
            "recipe, stage 1: 'momentum' is 1.0, expected a share from 0 to below 1",
        ),
        (
            ruled({"name": "Prune", "sparsity": 1.0}),
            "recipe, stage 1, rule 1, Prune: sparsity 1.0: expected a share from 0 to below 1, such as 0.75",
        ),
        (
            ruled({"name": "Cluster", "clusters": 1}),
            "recipe, stage 1, rule 1, Cluster: clusters 1: expected at least 2 values",
        ),
        (ruled({"name": "FakeQuant", "bits": 1}), "recipe, stage 1, rule 1, FakeQuant: bits 1: expected 2 to 16"),
        (
            scheduled(**{**POLYNOMIAL, "final": 0.75}),
            "recipe, stage 1, rule 1, Prune: sparsity 0.5, but the schedule ends at 0.75: expected the same",
        ),
        (
            scheduled(**{**POLYNOMIAL, "final": 1.5}),
            "recipe, stage 1, rule 1, Prune: Polynomial: received 1.5, expected a share from 0 to 1",
        ),
        (
            scheduled(**{**POLYNOMIAL, "begin": 0.0, "end": 0.6}),
            f"recipe, stage 1, rule 1, Prune: Polynomial(begin=0.0): {WHOLE}",
        ),
        (
            scheduled(name="Polynomial", initial=0.0, begin=0, end=9),
            "recipe, stage 1, rule 1, Prune: schedule Polynomial: "
            "Polynomial.__init__() missing 1 required positional argument: 'final'",
        ),
    ],
)
def test_a_bad_value(given, text):
    assert refused(given) == text


def test_a_recipe_made_in_python_is_checked_too():
    made = Recipe(name="mine", stages=(Stage(rules=(Rule(transforms=({"name": "Prune", "sparsity": 0.5},)),)),))
    assert load_recipe(made) == made
    assert refused(Recipe(name="mine", stages=(Stage(quantize="int9"),))) == (
        "recipe mine, stage 1: 'quantize' is 'int9'; nearest: 'int8'"
    )


# Names and files


def test_an_unknown_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("qat_int4") == "recipe 'qat_int4': no recipe and no file of that name; nearest: 'qat_int8'"
    assert refused("zzz") == (
        f"recipe 'zzz': no recipe and no file of that name; the recipes: {', '.join(recipe_names())}"
    )
    assert refused(tmp_path / "no.json").startswith(f"recipe '{tmp_path}/no.json': no recipe and no file of that name")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "recipe {}: not JSON (Expecting value: line 1 column 1 (char 0))"),
        (
            b"{'name': 1}",
            "recipe {}: not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        ),
        (b"[1]", "{}: received list, expected an object"),
        (b'{"name": "mine", "epoch": 3}', "{}: unknown key 'epoch'; nearest: 'epochs'"),
        (
            b'{"name": "mine", "stages": [{"quantize": "int8", "train": NaN}]}',
            "recipe {}: holds NaN, expected finite numbers",
        ),
        (
            b"\xff\xfe\x00",
            "recipe {}: cannot be read ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "
            "expected a JSON file",
        ),
    ],
)
def test_a_file_that_is_no_recipe(content, text, tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert refused(path) == text.format(path)


# What a stage does


X = np.random.default_rng(0).normal(size=(64, 8, 8, 2)).astype("float32")


def model():
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 2))
    x = L.Conv2D(6, 3, name="conv")(i)
    x = L.DepthwiseConv2D(3, name="thin")(x)
    x = L.Flatten(name="flat")(x)
    return keras.Model(i, L.Dense(4, name="head")(x), name="m")


def started(given, index=0, of=None, steps=100, seed=0):
    stage = load_recipe(given).stages[index]
    return start_stage(of or model(), stage, steps=steps, calibration=X, seed=seed)


def kinds(attached):
    return {name: type(transform).__name__ for name, transform in transforms_of(attached)}


def test_a_rule_reaches_what_it_matches_and_says_so(caplog):
    caplog.set_level(logging.ERROR, logger="kompakt")
    found = started(ruled({"name": "Prune", "sparsity": 0.5}))
    assert kinds(found.model) == {"conv/kernel": "Prune", "head/kernel": "Prune"}
    assert found.applied == ("Prune(sparsity=0.5) on *: conv/kernel, head/kernel",)
    assert found.skipped == (
        "Prune: thin/kernel: left as it is (depthwise kernels have few values a channel; "
        "name it in sites= to include it)",
    )

    named = started(ruled({"name": "Prune", "sparsity": 0.5}, sites="thin/*"))
    assert kinds(named.model) == {"thin/kernel": "Prune"}
    assert named.applied == ("Prune(sparsity=0.5) on thin/*: thin/kernel",) and named.skipped == ()


def test_transforms_of_rules_come_in_order():
    given = recipe(
        stages=[
            {
                "rules": [
                    {"sites": "conv/kernel", "transforms": [{"name": "Prune", "sparsity": 0.5}]},
                    {"sites": "*/kernel", "transforms": [{"name": "Cluster", "clusters": 4}, {"name": "FakeQuant"}]},
                ]
            }
        ]
    )
    order = {}
    for name, transform in transforms_of(started(given).model):
        order.setdefault(name, []).append(type(transform))
    assert order == {
        "conv/kernel": [Prune, Cluster, FakeQuant],
        "thin/kernel": [Cluster, FakeQuant],
        "head/kernel": [Cluster, FakeQuant],
    }


def test_a_rule_that_matches_no_layer():
    with pytest.raises(InputError) as caught:
        started(ruled({"name": "Prune", "sparsity": 0.5}, sites="convs/kernel"))
    assert str(caught.value) == "no site matches 'convs/kernel'; nearest: 'conv/kernel'"


def test_a_model_without_weights_to_work_on():
    bare = keras.Sequential([keras.Input((4,)), L.ReLU()], name="bare")
    for stage in (ruled({"name": "Prune", "sparsity": 0.5}), staged(quantize="int8")):
        with pytest.raises(InputError, match=r"^the model 'bare' has no (weights to work on|layer to quantize): "):
            started(stage, of=bare)


def test_a_stage_keeps_what_the_one_before_did():
    given = recipe(
        stages=[
            {"rules": [{"transforms": [{"name": "Prune", "sparsity": 0.5}]}]},
            {"rules": [{"transforms": [{"name": "Cluster", "clusters": 8}]}]},
            {"quantize": "int8"},
        ]
    )
    first = started(given, 0)
    second = started(given, 1, of=first.model)
    third = started(given, 2, of=second.model)
    assert third.applied == ("quantize int8: conv/kernel, head/kernel, thin/kernel",)
    _, encodings = kp.finalize(third.model)
    for name in ("conv/kernel", "head/kernel"):
        held = encodings[name]
        assert held.bits == 8 and held.palette <= 9
        assert held.zeros >= model().get_layer(name.split("/")[0]).kernel.shape.num_elements() // 2


def test_the_seed_reaches_what_starts_at_random():
    def seeds(**options):
        found = started(ruled({"name": "Cluster", "clusters": 4, **options}), seed=3)
        return [transform.seed for _, transform in transforms_of(found.model)]

    assert seeds() == [3, 3] and seeds(seed=5) == [5, 5]


# Schedules of a stage


def schedule_of(given, steps):
    found = started(given, steps=steps)
    return next(t.schedule for _, t in transforms_of(found.model)), found.skipped[:-1]


def zeros_after(given, steps):
    """Share of zeros in the head after as many training steps."""
    attached = started(given, steps=steps).model
    attached.compile("sgd", "mse")
    attached.fit(X[:steps], np.zeros((steps, 4)), batch_size=1, verbose=0, callbacks=[kp.callbacks.Update()])
    plain, _ = kp.finalize(attached)
    return float((plain.get_layer("head").get_weights()[0] == 0).mean())


def test_shares_become_steps():
    schedule, skipped = schedule_of(scheduled(**{**POLYNOMIAL, "begin": 0.25, "end": 0.75, "unit": "share"}), 200)
    assert (schedule.begin, schedule.end, schedule.frequency, schedule.final) == (50, 150, 5, 0.5)
    assert skipped == ()


@pytest.mark.parametrize("steps", [2, 3, 7, 40])
@pytest.mark.parametrize("end", [0.6, 1.0])
def test_a_share_is_reached_within_the_training(steps, end):
    given = scheduled(**{**POLYNOMIAL, "begin": 0.0, "end": end, "unit": "share"})
    schedule, skipped = schedule_of(given, steps)
    assert schedule.end < steps and schedule.acts(schedule.end) and schedule(schedule.end) == 0.5
    assert skipped == ()


@pytest.mark.parametrize("kind", ["Constant", "Polynomial"])
def test_without_training_the_final_share_is_there_at_once(kind):
    constant = {"name": "Constant", "value": 0.5, "begin": 0.5}
    given = scheduled(**{**(constant if kind == "Constant" else POLYNOMIAL), "unit": "share"})
    plain, _ = kp.finalize(started(given, steps=1).model)
    assert (plain.get_layer("head").get_weights()[0] == 0).mean() == 0.5


def test_a_fit_of_the_stage_reaches_the_share():
    given = scheduled(**{**POLYNOMIAL, "begin": 0.0, "end": 1.0, "unit": "share"})
    assert zeros_after(given, 4) == 0.5


def test_a_schedule_that_the_training_does_not_reach_is_named():
    schedule, skipped = schedule_of(scheduled(**{**POLYNOMIAL, "end": 1000}), 101)
    assert schedule.end == 1000
    reached = 0.5 - 0.5 * 0.9**3
    assert skipped[0] == (
        f"Prune on *: its schedule ends at step 1000, the stage has 101; it reaches {reached:.3f} of 0.500"
    )


# Stages that remove channels


def wide():
    keras.utils.set_random_seed(0)
    parts = [L.Conv2D(32, 3, name="conv"), L.ReLU(), L.Conv2D(32, 3, name="second"), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 8, 2)), *parts, L.Dense(4, name="head")])


def test_a_shrink_stage_removes_channels_and_says_how_many():
    given = recipe(stages=[{"shrink": 0.5, "options": {"of": "macs"}}, {"quantize": "int8"}])
    first = started(given, 0, of=wide())
    macs = [sum(row.macs for row in kp.layer_costs(m)) for m in (wide(), first.model)]
    assert 0.3 < macs[1] / macs[0] <= 0.5  # in steps of 8 channels
    (line,) = first.applied
    assert line.startswith(f"shrink to 0.5 of the macs (reached {macs[1] / macs[0]:.3f})") and "conv 32 to " in line
    second = started(given, 1, of=first.model)
    assert second.applied == ("quantize int8: conv/kernel, head/kernel, second/kernel",)


def test_a_shrink_stage_after_another_technique_is_refused():
    given = recipe(stages=[{"rules": [{"transforms": [{"name": "Prune", "sparsity": 0.5}]}]}, {"shrink": 0.5}])
    pruned = started(given, 0, of=wide()).model
    with pytest.raises(InputError, match="a stage with shrink comes before those that prune, cluster or quantize"):
        started(given, 1, of=pruned)


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ({"shrink": "half"}, "recipe, stage 1: 'shrink' is 'half', expected a number"),
        ({"shrink": 0.5, "options": {"off": "macs"}}, "recipe, stage 1: unknown option 'off'; nearest: 'of'"),
        (
            {"shrink": 0.5, "quantize": "int8"},
            "recipe, stage 1: expected rules, quantize or shrink, one of the three, or distill",
        ),
    ],
)
def test_what_a_shrink_stage_refuses(stage, text):
    with pytest.raises(InputError) as caught:
        load_recipe(staged(**stage))
    assert str(caught.value) == text


def test_words_for_quantization_are_those_of_the_targets():
    assert {name: find_target(name).modes for name in TARGETS} == MODES
    assert {name: found for name in TARGETS if (found := find_target(name).suffix)} == SUFFIXES
    assert set(WORDS) == {mode for modes in MODES.values() for mode in modes}
