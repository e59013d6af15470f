"""``student``: widths, depths, weights, seeds, and what it refuses."""

import logging
import random

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.sites import units


def conv(filters, name, size=3, **options):
    return L.Conv2D(filters, size, padding="same", name=name, **options)


def cnn():
    body = [conv(16, "a", activation="relu"), conv(16, "b", activation="relu"), conv(16, "c", activation="relu")]
    head = [L.MaxPooling2D(name="pool"), L.Flatten(name="flat"), L.Dense(24, "relu", name="hidden")]
    return keras.Sequential([keras.Input((8, 8, 1), name="image"), *body, *head, L.Dense(5, "softmax", name="head")])


def block(x, filters, name, strides=1):
    y = L.BatchNormalization(name=f"{name}_norm")(conv(filters, f"{name}_a", strides=strides, use_bias=False)(x))
    y = L.BatchNormalization(name=f"{name}_last")(conv(filters, f"{name}_b")(L.ReLU(name=f"{name}_relu")(y)))
    if x.shape[-1] != filters:
        x = conv(filters, f"{name}_skip", 1, strides=strides)(x)
    return L.ReLU(name=f"{name}_out")(L.Add(name=f"{name}_sum")([x, y]))


def resnet():
    i = keras.Input((16, 16, 3), name="image")
    x = conv(16, "stem")(i)
    for s, filters in enumerate((16, 32)):
        for b in range(3):
            x = block(x, filters, f"s{s}b{b}", 2 if s and not b else 1)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling2D(name="mean")(x)), name="resnet")


def sequence():
    i = keras.Input((7, 6), name="steps")
    x = L.Dropout(0.2)(L.LSTM(20, return_sequences=True, name="lstm")(i))
    x = L.LSTM(20, return_sequences=True, name="again")(x)
    return keras.Model(i, L.Dense(1, name="value")(L.Dense(12, "tanh", name="hidden")(L.Flatten()(x))))


def transformer():
    i = keras.Input((6,), dtype="int32", name="tokens")
    x = L.Embedding(30, 16, name="embedding")(i)
    for n in range(2):
        y = L.LayerNormalization(name=f"n{n}")(x)
        x = L.Add()([x, L.MultiHeadAttention(4, 4, name=f"mha{n}")(y, y)])
        y = L.Dense(16, name=f"down{n}")(L.Dense(32, "gelu", name=f"up{n}")(L.LayerNormalization()(x)))
        x = L.Add()([x, y])
    return keras.Model(i, L.Dense(3, name="head")(L.GlobalAveragePooling1D()(L.LayerNormalization(name="last")(x))))


def two_by_two():
    image, number = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="number")
    x = L.GlobalAveragePooling2D()(conv(16, "b", activation="relu")(conv(16, "a", activation="relu")(image)))
    y = L.Dense(16, "relu", name="d")(number)
    both = L.Concatenate()([x, y])
    outputs = {"kind": L.Dense(4, "softmax", name="kind")(both), "size": L.Dense(1, name="size")(both)}
    return keras.Model({"image": image, "number": number}, outputs)


@keras.saving.register_keras_serializable("student_tests")
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.first = L.Dense(16, activation="relu", name="first")
        self.second = L.Dense(16, activation="relu", name="second")
        self.last = L.Dense(3, name="last")

    def call(self, x):
        return self.last(self.second(self.first(x)))


def subclassed():
    model = Subclassed(name="own")
    model(np.zeros((1, 4), "float32"))
    return model


def nested():
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv(16, "a"), conv(16, "b"), L.BatchNormalization(name="n")])
    i = keras.Input((8, 8, 3), name="image")
    return keras.Model(i, L.Dense(3, name="head")(L.GlobalAveragePooling2D()(inner(i))))


TEACHERS = (cnn, resnet, sequence, transformer, two_by_two, subclassed, nested)


def trained(make):
    """A teacher that no initializer would give: every weight is moved, statistics included."""
    keras.utils.set_random_seed(1)
    model, numbers = make(), np.random.default_rng(1)
    for weight in model.weights:
        if "seed" not in weight.path and weight.dtype != "int32":
            weight.assign(weight + numbers.uniform(0.05, 0.5, weight.shape))
    return model


def sample(model, count=3):
    numbers = np.random.default_rng(0)
    if isinstance(model, Subclassed) or not model.inputs:
        return numbers.normal(size=(count, 4)).astype("float32")
    found = {t.name: numbers.integers(0, 30, (count, *t.shape[1:])).astype(t.dtype) for t in model.inputs}
    return found if len(found) > 1 else next(iter(found.values()))


def predicted(model, x):
    made = model(x, training=False)
    return {k: ops.convert_to_numpy(v) for k, v in (made.items() if isinstance(made, dict) else {"": made}.items())}


def same(a, b, **close):
    return a.keys() == b.keys() and all(np.allclose(a[key], b[key], **close) for key in a)


def state(model):
    return [np.array(ops.convert_to_numpy(w)) for w in model.weights]


def learned(model):
    """Its weights without the seeds of Dropout."""
    return [np.array(ops.convert_to_numpy(w)) for w in model.weights if "seed" not in w.path]


def names(model):
    return list(units(model))


def ends(model):
    """Names of the outputs, and names and shapes of the inputs."""
    outputs = getattr(model, "output_names", [model.layers[-1].name])
    return outputs, [(t.name, t.shape, t.dtype) for t in model.inputs]


# Laws


@pytest.mark.parametrize("make", TEACHERS)
@pytest.mark.parametrize("weights", ["none", "teacher"])
def test_a_student_is_a_smaller_model_with_the_same_ends(make, weights, tmp_path):
    teacher = trained(make)
    before = state(teacher), [layer.trainable for layer in teacher._flatten_layers()]
    made = kp.student(teacher, 0.5, weights=weights)
    assert made.count_params() < 0.6 * teacher.count_params()
    if make is subclassed:
        assert made.output_shape == (None, 3) and names(made) == ["first", "second", "last"]
    else:
        assert made.output_shape == teacher.output_shape and ends(made) == ends(teacher)
        assert set(names(made)) <= set(names(teacher))
    after = state(teacher), [layer.trainable for layer in teacher._flatten_layers()]
    assert before[1] == after[1] and all((a == b).all() for a, b in zip(before[0], after[0], strict=True))
    assert type(made) in (keras.Sequential, type(keras.Model(*[keras.Input((1,))] * 2)))
    made.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    x = sample(teacher)
    assert same(predicted(again, x), predicted(made, x), rtol=1e-6)


@pytest.mark.parametrize("make", TEACHERS)
def test_the_whole_teacher_with_its_weights_predicts_as_it_does(make):
    teacher = trained(make)
    made = kp.student(teacher, 1.0, 1.0, weights="teacher")
    assert made is not teacher and same(predicted(made, sample(teacher)), predicted(teacher, sample(teacher)), atol=0)
    assert not {id(w) for w in made.weights} & {id(w) for w in teacher.weights}


@pytest.mark.parametrize("make", TEACHERS)
def test_new_weights_are_those_of_the_seed_alone(make):
    teacher, other = trained(make), trained(make)
    for weight in other.weights:
        weight.assign(weight * 0)
    one, two, third = (kp.student(t, 1.0, seed=s) for t, s in ((teacher, 0), (other, 0), (teacher, 1)))
    assert all((a == b).all() for a, b in zip(state(one), state(two), strict=True))
    drawn = [(a, b) for a, b in zip(learned(one), learned(third), strict=True) if a.ndim > 1 and a.any()]
    differ = [(a != b).any() for a, b in drawn]
    assert len(differ) > 2 and all(differ)
    assert not same(predicted(one, sample(teacher)), predicted(teacher, sample(teacher)), atol=1e-3)


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("make", TEACHERS)
def test_a_student_learns(make):
    made = kp.student(trained(make), 0.5)
    x, before = sample(made, 8), learned(made)
    targets = {key: np.ones_like(value) for key, value in predicted(made, x).items()}
    made.compile("sgd", "mse", jit_compile=keras.backend.backend() == "jax")
    made.fit(x, targets.get("", targets), verbose=0)
    moved = [(a != b).any() for a, b in zip(before, learned(made), strict=True)]
    assert np.mean(moved) > 0.6


# Width


def test_each_layer_keeps_its_share_and_sums_stay_together():
    made = kp.student(resnet(), 0.25)
    kept = {layer.name: layer.filters for layer in made.layers if isinstance(layer, L.Conv2D)}
    assert {n: f for n, f in kept.items() if not n.startswith("s1")} == dict.fromkeys(
        ["stem", *(f"s0b{b}_{part}" for b in range(3) for part in "ab")], 4
    )
    assert {f for n, f in kept.items() if n.startswith("s1")} == {8}
    assert made.get_layer("logits").units == 10


def test_numbers_of_channels_are_multiples_of_round_to_and_what_is_smaller_stays(caplog):
    teacher = keras.Sequential([keras.Input((4,)), L.Dense(48, name="a"), L.Dense(6, name="b"), L.Dense(2, name="c")])
    with caplog.at_level(logging.INFO, "kompakt"):
        made = kp.student(teacher, 0.4, round_to=8)
    assert [layer.units for layer in made.layers] == [16, 6, 2]
    assert "all channels stay in b: round_to=8" in caplog.text
    assert f"{made.count_params()} of {teacher.count_params()} parameters, width 0.4, depth 1" in caplog.text


def test_with_the_teachers_weights_the_channels_of_the_largest_norm_stay():
    teacher = cnn()
    kernel = np.array(ops.convert_to_numpy(teacher.get_layer("a").kernel))
    large = [1, 4, 5, 9]
    kernel[..., large] += 5.0
    teacher.get_layer("a").kernel.assign(kernel)
    made = kp.student(teacher, 0.25, weights="teacher")
    assert np.allclose(ops.convert_to_numpy(made.get_layer("a").kernel), kernel[..., large])


def test_skip_keeps_channels_and_blocks():
    made = kp.student(resnet(), 0.5, 0.3, skip=["s0b*_a", "s1b2_b"])
    assert made.get_layer("s0b2_a").filters == 16 and made.get_layer("s0b1_b").filters == 8
    assert made.get_layer("s1b2_b").filters == 32
    assert {n.split("_")[0] for n in names(made) if n.endswith("_sum")} == {"s0b0", "s0b1", "s0b2", "s1b0", "s1b2"}


def test_what_cannot_be_narrower_is_said(caplog):
    i = keras.Input((8,))
    x = L.Lambda(lambda t: t * 2.0, name="own", output_shape=(8,))(L.Dense(8, name="before")(i))
    with caplog.at_level(logging.WARNING, "kompakt"):
        kp.student(keras.Model(i, L.Dense(2)(L.Dense(16, name="behind")(x))), 0.5)
    assert "channels that stay: before (Lambda 'own'" in caplog.text


# Depth


@pytest.mark.parametrize(
    ("depth", "left"), [(0.84, "012"), (0.83, "01"), (0.5, "01"), (0.49, "0"), (0.01, "0"), (1.0, "012")]
)
def test_a_stage_keeps_its_share_of_blocks_and_its_first(depth, left):
    teacher = resnet()
    if left == "012" and depth < 1:
        with pytest.raises(kp.InputError, match=r"3 blocks, of which 0\.84 is rounded to 3; lower depth"):
            kp.student(teacher, 1.0, depth)
        return
    made = kp.student(teacher, 1.0, depth)
    assert [n for n in names(made) if n.endswith("_sum")] == [f"s{s}b{b}_sum" for s in "01" for b in left]


def test_those_that_stay_are_spread_over_the_stage():
    layers = [L.Dense(8, name=f"d{n}") for n in range(8)]
    teacher = keras.Sequential([keras.Input((8,)), *layers, L.Dense(2, name="head")])
    assert names(kp.student(teacher, 1.0, 0.5)) == ["d0", "d2", "d4", "d6", "head"]
    assert names(kp.student(teacher, 1.0, 0.25)) == ["d0", "d4", "head"]


def test_depth_with_the_teachers_weights_keeps_what_the_layers_had():
    teacher = trained(resnet)
    made = kp.student(teacher, 1.0, 0.3, weights="teacher")
    for layer in made.layers:
        for a, b in zip(state(layer), state(teacher.get_layer(layer.name)), strict=True):
            assert (a == b).all()


def test_the_blocks_that_go_are_named(caplog):
    with caplog.at_level(logging.INFO, "kompakt"):
        kp.student(transformer(), 1.0, 0.5)
    assert "without n1 mha1" in caplog.text and "down1" in caplog.text


def test_a_transformer_loses_a_block_and_half_of_its_channels():
    made = kp.student(transformer(), 0.5, 0.5, weights="teacher")
    assert [n for n in names(made) if n.startswith(("mha", "up", "last"))] == ["mha0", "up0", "last"]
    assert made.get_layer("embedding").output_dim == 8 and made.get_layer("mha0").num_heads == 2


@pytest.mark.slow
def test_mobilenet_v2_half_as_wide_and_half_as_deep():
    teacher = keras.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None, classes=10)
    made = kp.student(teacher, 0.5, 0.5, round_to=8)
    sums = [n for n in names(made) if n.endswith("_add")]
    assert sums == [f"block_{n}_add" for n in (4, 8, 11, 14)]
    assert made.get_layer("block_13_project").filters == 80 and made.get_layer("Conv_1").filters == 640
    assert made.count_params() < 0.25 * teacher.count_params()
    assert predicted(made, np.zeros((1, 96, 96, 3), "float32"))[""].shape == (1, 10)


# Weights


def test_batch_statistics_start_anew_and_those_of_the_data_stay():
    adapted = L.Normalization(name="adapted")
    adapted.adapt(np.random.default_rng(0).normal(3.0, 2.0, (100, 4)))
    layers = [adapted, L.Dense(16, name="d"), L.BatchNormalization(name="norm"), L.Dense(2, name="head")]
    teacher = keras.Sequential([keras.Input((4,)), *layers])
    for weight in teacher.get_layer("norm").weights:
        weight.assign(weight + 0.7)
    made = kp.student(teacher, 0.5)
    gamma, beta, mean, variance = state(made.get_layer("norm"))
    assert (gamma == 1).all() and (beta == 0).all() and (mean == 0).all() and (variance == 1).all() and len(mean) == 8
    assert np.allclose(made.get_layer("adapted").mean, adapted.mean) and abs(np.mean(adapted.mean) - 3) < 0.5


def test_a_seed_counts_where_an_initializer_has_one_and_the_callers_random_state_stays():
    start = keras.initializers.GlorotUniform(seed=3)
    teacher = keras.Sequential([keras.Input((4,)), L.Dense(16, kernel_initializer=start, name="d"), L.Dense(2)])
    random.seed(5)
    np.random.seed(5)
    wanted = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    one, other = kp.student(teacher, 0.5, seed=0), kp.student(teacher, 0.5, seed=1)
    assert (random.random(), np.random.random()) == wanted
    assert (state(one)[0] != state(other)[0]).all()


def test_a_frozen_teacher_has_a_student_that_can_be_trained():
    teacher = resnet()
    teacher.trainable = False
    made = kp.student(teacher, 0.5, weights="teacher")
    assert not teacher.trainable_weights and len(made.trainable_weights) == len(resnet().trainable_weights)


# Errors


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 0}, "width=0: expected a share over 0 and at most 1"),
        ({"width": 1.5}, "width=1.5: expected a share"),
        ({"width": True}, "width=True: expected a share"),
        ({"depth": -1}, "depth=-1: expected a share"),
        ({"depth": "half"}, "depth='half': expected a share"),
        ({"weights": "imagenet"}, "weights='imagenet': expected one of none, teacher"),
        ({"weights": None}, "weights=None: expected one of none, teacher"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"seed": 0.5}, "seed=0.5: expected a whole number from 0"),
        ({"round_to": 0}, "round_to=0: expected a whole number from 1"),
        ({"skip": "hiden"}, "skip='hiden' matches no layer; nearest: 'hidden'"),
        ({"skip": 3}, "skip=3: expected names or patterns of layers"),
        ({"width": 0.99}, "width=0.99: no layer of .* gets narrower with round_to=1"),
        ({"skip": "*"}, "width=0.5: no layer of .* gets narrower"),
        ({"depth": 0.5, "skip": "*"}, "depth=0.5: no block of .* can go: skip names a layer in each"),
    ],
)
def test_bad_arguments_are_one_clear_error(options, text):
    with pytest.raises(kp.InputError, match=text):
        kp.student(cnn(), **options)


def test_teachers_that_cannot_be_used():
    with pytest.raises(kp.InputError, match=r"received int, expected a keras\.Model"):
        kp.student(3)
    with pytest.raises(kp.InputError, match="has no weights yet"):
        kp.student(keras.Sequential([L.Dense(2)]))
    with pytest.raises(kp.InputError, match="the teacher holds transforms"):
        kp.student(kp.prune(cnn(), 0.5))
    bad = cnn()
    bad.get_layer("a").kernel.assign(bad.get_layer("a").kernel * np.nan)
    with pytest.raises(kp.InputError, match=r"a/kernel: .* NaN"):
        kp.student(bad)


def test_nothing_to_take_is_an_error_that_says_why():
    one = keras.Sequential([keras.Input((4,)), L.Dense(2, name="only")])
    with pytest.raises(kp.InputError, match=r"width=0\.5: no channel of .* can go: only \(output of the model\)"):
        kp.student(one)
    with pytest.raises(kp.InputError, match=r"depth=0\.5: no block of .* can go: it has no residual sum"):
        kp.student(one, 1.0, 0.5)
    i = keras.Input((8, 8, 3))
    single = keras.Model(i, L.Flatten()(block(conv(8, "stem")(i), 8, "one")))
    with pytest.raises(kp.InputError, match="each is the first of its stage"):
        kp.student(single, 1.0, 0.5)


def test_a_table_that_an_initializer_holds_is_named_and_can_be_kept():
    table = keras.initializers.Constant(np.random.default_rng(0).normal(size=(10, 8)).astype("float32"))
    words = L.Embedding(10, 8, embeddings_initializer=table, name="words")
    layers = [words, L.Dense(16, name="d"), L.GlobalAveragePooling1D(), L.Dense(2)]
    sequential = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    for teacher in (sequential, keras.Model(sequential.inputs, sequential.outputs)):
        with pytest.raises(kp.InputError, match="the layer 'words' cannot be built with fewer channels"):
            kp.student(teacher)
        made = kp.student(teacher, skip="words")
        assert (state(made.get_layer("words"))[0] == np.asarray(table.value)).all() and made.get_layer("d").units == 8
