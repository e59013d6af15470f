"""``shrink``: targets, rankings, options and errors; and whole models of the literature at half their cost."""

import dataclasses
import logging
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.cost import layer_costs
from kompakt.rewrite.channel_groups import read_channels

SHARED = Path(os.environ.get("KOMPAKT_SHARED", Path(__file__).parents[2] / "shared"))
RESNET8 = SHARED / "data" / "mlperf_tiny" / "ic_resnet8.keras"


def conv(filters, size=3, **options):
    return L.Conv2D(filters, size, padding="same", **options)


def block(x, filters, name):
    y = L.ReLU()(L.BatchNormalization(name=f"{name}_norm")(conv(filters, name=f"{name}_a", use_bias=False)(x)))
    y = L.BatchNormalization(name=f"{name}_out")(conv(filters, name=f"{name}_b", use_bias=False)(y))
    if x.shape[-1] != filters:
        x = conv(filters, 1, name=f"{name}_skip")(x)
    return L.ReLU()(L.Add()([x, y]))


def network(seed=0):
    """A small residual network, (8, 8, 3) to 4 classes."""
    keras.utils.set_random_seed(seed)
    i = keras.Input((8, 8, 3))
    x = block(block(conv(32, name="stem")(i), 32, "one"), 64, "two")
    return scramble(keras.Model(i, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(x)), name="small"))


def scramble(model, seed=0):
    """Random scales, offsets and moving statistics, so that no channel is alike or zero by chance."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = np.array(ops.convert_to_numpy(weight))
        if value.size > 1 and len(np.unique(value)) == 1:
            weight.assign(random.uniform(0.5, 1.5, value.shape) * (1.0 if value.flat[0] else 0.3))
    return model


def macs(model):
    return sum(row.macs or 0 for row in layer_costs(model))


def measured(model, of):
    weights = {"parameters": model.count_params(), "bytes": 4 * model.count_params()}
    return weights[of] if of in weights else macs(model)


def outputs(model, x):
    return np.asarray(ops.convert_to_numpy(model(x, training=False)))


# Targets


@pytest.mark.parametrize("scope", ["global", "group"])
@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
@pytest.mark.parametrize("keep", [0.75, 0.5, 0.25])
def test_the_target_is_reached_and_not_passed(keep, of, scope):
    model = network()
    plan = kp.plan_shrink(model, keep, of=of, scope=scope)
    small = kp.shrink(model, keep, of=of, scope=scope)
    share = measured(small, of) / measured(model, of)
    assert keep - 0.05 <= share <= keep
    assert plan.reached == pytest.approx(share) and plan.asked == keep and plan.of == of


@pytest.mark.parametrize("round_to", [1, 4, 16])
def test_finer_steps_come_nearer(round_to):
    model = network()
    reached = kp.plan_shrink(model, 0.5, round_to=round_to).reached
    assert 0.5 - {1: 0.005, 4: 0.02, 16: 0.12}[round_to] <= reached <= 0.5


def test_a_share_of_the_channels():
    plan = kp.plan_shrink(network(), 0.5, of="channels", round_to=1)
    assert plan.after.channels == plan.before.channels // 2 == sum(g.after for g in plan.groups)


@pytest.mark.parametrize("kind", ["network", "mha", "separable"])
def test_the_plan_knows_what_the_model_will_cost(kind):
    model = {"network": network, "mha": transformer, "separable": separable}[kind]()
    plan = kp.plan_shrink(model, 0.5, round_to=2)
    small = kp.shrink(model, 0.5, round_to=2)
    assert (plan.before.macs, plan.after.macs) == (macs(model), macs(small))
    assert (plan.before.parameters, plan.after.parameters) == (model.count_params(), small.count_params())
    assert plan.after.bytes == 4 * small.count_params()


def transformer():
    keras.utils.set_random_seed(0)
    i = keras.Input((6, 5))
    x = L.Dense(16)(i)
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(8, 4, name="heads")(x, x)]))
    x = L.Add()([x, L.Dense(16)(L.Dense(64, activation="gelu", name="hidden")(x))])
    x = L.EinsumDense("abc,cd->abd", (None, 24))(x)
    return scramble(keras.Model(i, L.Dense(3)(L.LSTM(16)(x))))


def separable():
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3))
    x = L.SeparableConv2D(16, 3, depth_multiplier=2)(conv(16, groups=1)(i))
    x = L.DepthwiseConv2D(3)(L.Conv2DTranspose(12, 3, strides=2)(x))
    return scramble(keras.Model(i, L.Dense(3)(L.Flatten()(conv(16, groups=4)(x)))))


def test_an_embedding_and_units_of_several_kinds_are_counted():
    i = keras.Input((6,), dtype="int32")
    model = keras.Model(i, L.Dense(3)(L.Bidirectional(L.GRU(16))(L.Embedding(50, 32)(i))))
    plan = kp.plan_shrink(model, 0.5, of="bytes")
    small = kp.shrink(model, 0.5, of="bytes")
    assert plan.after.parameters == small.count_params() and 0.4 < plan.reached <= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.7, 0.4])
def test_the_file_has_the_share_of_bytes_that_was_asked(keep, tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("converting needs Keras on TensorFlow")
    model, x = network(), np.random.default_rng(0).normal(size=(8, *network().input_shape[1:])).astype("float32")
    plan = kp.plan_shrink(model, keep, of="file", round_to=1)
    files = [
        kp.export(m, tmp_path / f"{i}.tflite", verify=x).bytes
        for i, m in enumerate((model, kp.shrink(model, keep, of="file", round_to=1)))
    ]
    assert abs(files[0] - plan.before.file) < 0.02 * files[0]  # the export tells the file what was asked of it
    assert abs(files[1] - plan.after.file) < 0.02 * files[0]
    assert keep - 0.05 < plan.reached <= keep


# Options


def test_channels_are_multiples_of_eight():
    plan = kp.plan_shrink(network(), 0.4)
    assert [g.after % 8 for g in plan.groups] == [0] * len(plan.groups)
    small = kp.shrink(network(), 0.4)
    assert all(layer.filters % 8 == 0 for layer in small.layers if isinstance(layer, L.Conv2D))


def test_a_group_smaller_than_a_step_stays_whole():
    i = keras.Input((8, 8, 3))
    model = keras.Model(i, L.Dense(2)(L.Flatten()(conv(32, name="wide")(conv(6, name="narrow")(i)))))
    after = {g.name: g.after for g in kp.plan_shrink(model, 0.6).groups}
    assert after == {"narrow": 6, "wide": 16}


def test_heads_are_counted_by_their_width():
    """Eight heads of 4 are 32 channels: in steps of 8 channels, two heads at a time."""
    plan = kp.plan_shrink(transformer(), 0.6, rank="random", seed=3)
    (heads,) = [g for g in plan.groups if g.name == "heads"]
    assert heads.before == 8 and heads.after % 2 == 0
    assert kp.shrink(transformer(), 0.6, rank="random", seed=3).get_layer("heads").num_heads == heads.after


def test_the_least_that_a_layer_keeps():
    plan = kp.plan_shrink(network(), 0.35, min_channels=20)
    assert min(g.after for g in plan.groups) >= 24


def test_layers_that_are_skipped_stay_whole():
    plan = kp.plan_shrink(network(), 0.6, skip=["two_a", "st*"])
    kept = {g.name: (g.before, g.after) for g in plan.groups}
    assert kept["two_a"] == (64, 64) and kept["stem"] == (32, 32) and plan.reached <= 0.6
    assert plan.skipped == ("stem", "two_a")


def test_a_layer_that_channels_only_go_through_can_be_skipped_too():
    plan = kp.plan_shrink(network(), 0.6, skip="two_norm")
    assert plan.skipped == ("two_a",)
    assert kp.plan_shrink(transformer(), 0.7, skip="heads").skipped == ("heads",)


def test_masks_instead_of_a_share():
    model = network()
    keep = np.arange(64) % 4 > 0
    small = kp.shrink(model, {"two_a": keep})
    assert small.get_layer("two_a").filters == 48
    plan = kp.plan_shrink(model, {"two_a": keep})
    assert plan.masks == {"two_a": tuple(keep.tolist())} and plan.reached is None
    assert plan.after.parameters == small.count_params()


def test_the_masks_of_a_plan_make_the_same_model():
    model = network()
    plan = kp.plan_shrink(model, 0.5)
    one, other = kp.shrink(model, 0.5), kp.shrink(model, plan.masks)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(outputs(one, x), outputs(kp.mask_channels(model, plan.masks), x), atol=1e-4)


def test_a_plan_is_a_record():
    plan = kp.plan_shrink(network(), 0.5)
    assert dataclasses.asdict(plan)["before"]["channels"] == 32 + 32 + 64 + 64
    assert plan == kp.plan_shrink(network(), 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.reached = 1.0


def test_a_share_of_one_keeps_everything():
    assert kp.shrink(network(), 1.0).count_params() == network().count_params()


# Rankings


def dense(weights):
    """Six hidden units with the given incoming weights."""
    model = keras.Sequential([keras.Input((2,)), L.Dense(6, name="hidden", use_bias=False), L.Dense(1, name="out")])
    model.get_layer("hidden").kernel.assign(np.array(weights, "float32").T)
    model.get_layer("out").kernel.assign(np.ones((6, 1), "float32"))
    return model


WEIGHTS = [[1.0, 1.0], [1.9, 0.0], [0.1, 0.1], [0.5, 0.5], [0.0, 1.5], [2.0, 2.0]]


@pytest.mark.parametrize(("rank", "kept"), [("l1", [0, 1, 5]), ("l2", [1, 4, 5])])
def test_norms_keep_the_largest_filters(rank, kept):
    plan = kp.plan_shrink(dense(WEIGHTS), 0.5, of="channels", rank=rank, round_to=1)
    assert np.flatnonzero(plan.masks["hidden"]).tolist() == kept


def test_of_equal_channels_the_first_stay():
    plan = kp.plan_shrink(dense([[1.0, 1.0]] * 6), 0.5, of="channels", scope="group", round_to=1)
    assert np.flatnonzero(plan.masks["hidden"]).tolist() == [0, 1, 2]


def test_batchnorm_scales_keep_the_channels_that_they_let_through():
    model = network()
    gammas = np.random.default_rng(1).permutation(64) / 64 + 0.01
    model.get_layer("two_norm").gamma.assign(gammas)
    plan = kp.plan_shrink(model, 0.5, rank="bn_scale", scope="group")
    kept = np.array(plan.masks["two_a"])
    assert gammas[kept].min() > gammas[~kept].max()
    assert plan.skipped == ()
    plain = keras.Sequential([keras.Input((4,)), L.Dense(32, name="a"), L.Dense(2)])
    with pytest.raises(kp.InputError, match="no channels go through a BatchNormalization with a scale; use rank='l1'"):
        kp.plan_shrink(plain, 0.5, rank="bn_scale")


def test_groups_that_a_ranking_says_nothing_about_are_named():
    i = keras.Input((8,))
    x = L.BatchNormalization()(L.Dense(32, name="normed")(i))
    model = keras.Model(i, L.Dense(2)(L.Dense(32, name="bare")(x)))
    plan = kp.plan_shrink(model, 0.7, of="parameters", rank="bn_scale")
    assert plan.skipped == ("bare",)
    assert {g.name: g.after < g.before for g in plan.groups} == {"normed": True, "bare": False}


def test_taylor_keeps_what_the_loss_depends_on():
    """Units 0 to 2 are read, 3 to 5 have larger weights and are not."""
    model = dense([[0.5, 0.2], [0.3, -0.4], [-0.2, 0.3], [3.0, 2.0], [2.0, 3.0], [-3.0, 2.0]])
    model.get_layer("out").kernel.assign(np.array([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]], "float32"))
    random = np.random.default_rng(0)
    data = random.normal(size=(70, 2)).astype("float32"), random.normal(size=(70, 1)).astype("float32")
    before = model.get_weights()
    taylor = kp.plan_shrink(model, 0.5, of="channels", rank="taylor", data=data, loss="mse", round_to=1)
    norm = kp.plan_shrink(model, 0.5, of="channels", rank="l1", round_to=1)
    assert np.flatnonzero(taylor.masks["hidden"]).tolist() == [0, 1, 2]
    assert np.flatnonzero(norm.masks["hidden"]).tolist() == [3, 4, 5]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_taylor_is_gradient_times_weight():
    """By hand, for a linear model with the squared error: one batch of 32 and one of 8."""
    from kompakt.ranking import Evidence, scores

    random = np.random.default_rng(0)
    model = dense(random.normal(size=(6, 2)))
    x, y = random.normal(size=(40, 2)).astype("float32"), random.normal(size=(40, 1)).astype("float32")
    w, v = (np.array(ops.convert_to_numpy(model.get_layer(n).kernel)) for n in ("hidden", "out"))
    wanted = np.zeros(6)
    for part in (slice(0, 32), slice(32, 40)):
        error = 2.0 * (x[part] @ w @ v - y[part]) / len(x[part])
        wanted += np.abs(w * (x[part].T @ (error @ v.T))).sum(axis=0)
    evidence = Evidence(model=model, reading=read_channels(model), data=(x, y), loss="mse")
    np.testing.assert_allclose(scores("taylor", evidence)["hidden"], wanted, rtol=1e-4)


@pytest.mark.slow
def test_taylor_takes_the_loss_of_a_compiled_model_and_keeps_the_model():
    model = network()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    small = kp.shrink(model, 0.5, rank="taylor", data=(x, np.arange(40) % 4))
    assert macs(small) <= 0.5 * macs(model)
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


def test_random_ranks_by_its_seed():
    one, same, other = (kp.plan_shrink(network(), 0.5, rank="random", seed=s).masks for s in (1, 1, 2))
    assert one == same and one != other


def test_global_and_group_ranks():
    """A group with few channels above the mean of all loses more of them where all are ranked together."""
    model = network()
    kernel = np.array(ops.convert_to_numpy(model.get_layer("two_a").kernel))
    kernel[..., 8:] *= 1e-3
    model.get_layer("two_a").kernel.assign(kernel)
    together = {g.name: g.after for g in kp.plan_shrink(model, 0.5).groups}
    apart = {g.name: g.after for g in kp.plan_shrink(model, 0.5, scope="group").groups}
    assert together["two_a"] <= 16 < apart["two_a"]
    assert all(kp.plan_shrink(model, 0.5).masks["two_a"][:8])


# What is said


def test_what_stays_is_said_in_one_line(caplog):
    i = keras.Input((6, 8))
    x = L.Dense(32, name="a")(i)
    x = L.Add()([x, L.Dense(32, name="b")(L.Dense(64, name="wide")(L.LayerNormalization(name="norm")(x)))])
    model = keras.Model(i, L.Dense(2, name="head")(x))
    with caplog.at_level(logging.WARNING, "kompakt"):
        kp.shrink(model, 0.5, round_to=1)
    assert [record.message for record in caplog.records] == [
        "channels that stay: a, b (LayerNormalization 'norm' averages over them)"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "kompakt"):
        kp.shrink(model, 0.5, layer_norms=True, round_to=1)
        kp.shrink(network(), 0.5)
    assert caplog.records == []


def test_a_share_that_is_far_under_its_target_is_said(caplog):
    model = keras.Sequential([keras.Input((8,)), L.Dense(16, name="a"), L.Dense(2)])
    with caplog.at_level(logging.WARNING, "kompakt"):
        kp.shrink(model, 0.9)
    assert [record.message for record in caplog.records] == [
        "0.500 of the macs is left where 0.9 was allowed: channels go in steps of round_to=8; "
        "a smaller one comes nearer"
    ]


def error(*args, **options):
    with pytest.raises(kp.InputError) as caught:
        kp.shrink(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"keep": 0}, "keep=0: expected a share over 0 and at most 1, such as 0.5, or masks by layer"),
        ({"keep": 50}, "keep=50: expected a share over 0 and at most 1, such as 0.5, or masks by layer"),
        ({"keep": "half"}, "keep='half': expected a share over 0 and at most 1, such as 0.5, or masks by layer"),
        ({"of": "flops"}, "of='flops': expected one of macs, parameters, bytes, file, channels"),
        ({"rank": "l3"}, "rank='l3': expected one of l1, l2, bn_scale, taylor, random"),
        ({"scope": "layer"}, "scope='layer': expected one of global, group"),
        ({"round_to": 0}, "round_to=0: expected a whole number from 1"),
        ({"min_channels": 1.5}, "min_channels=1.5: expected a whole number from 1"),
        ({"rank": "taylor"}, "rank='taylor' needs data=(x, y): some hundred samples and their targets"),
        (
            {"rank": "taylor", "data": (np.zeros((2, 8, 8, 3)), np.zeros(2))},
            "rank='taylor' needs the loss: give loss=, or compile the model with one",
        ),
        ({"skip": "convnet*"}, "skip='convnet*' matches no layer with channels"),
        ({"skip": "*"}, "skip='*' leaves no channel to remove; name fewer layers"),
        (
            {"keep": 0.01},
            "keep=0.01 of the macs cannot be reached: the least that can remain is 0.034, with round_to=8, "
            "min_channels=1 and what stays; raise keep, or lower those",
        ),
    ],
)
def test_what_cannot_be_used(given, text):
    found = error(network(), given.get("keep", 0.5), **{k: v for k, v in given.items() if k != "keep"})
    assert found.startswith(text) if "matches no layer" in text else found == text


def test_gradients_that_are_no_numbers():
    x = np.full((8, 8, 8, 3), np.inf, "float32")
    found = error(network(), 0.5, rank="taylor", data=(x, np.zeros(8)), loss="sparse_categorical_crossentropy")
    assert found == "rank='taylor': gradients are NaN or infinite on the data given; check data= and loss="


def test_a_model_without_channels_to_remove():
    i = keras.Input((4,))
    model = keras.Model(i, L.Dense(8, name="d")(L.Dense(8, name="c")(i)[..., :4]), name="bare")
    assert error(model, 0.5) == (
        "no channel of the model 'bare' can be removed: c (GetItem 'get_item' takes some of them); "
        "d (output of the model)"
    ).replace("get_item", next(o.name for o in model.operations if type(o).__name__ == "GetItem"))


def test_a_model_with_transforms():
    assert error(kp.prune(network(), 0.5), 0.5) == (
        "the model holds transforms: shrink the plain one, kompakt.finalize(model)[0]"
    )


def test_inputs_without_fixed_sizes():
    i = keras.Input((None, None, 3))
    model = keras.Model(i, L.Dense(2)(L.GlobalAveragePooling2D()(conv(32)(i))))
    assert error(model, 0.5) == (
        "of='macs': the model has none that can be counted (its inputs have no fixed size, or no layer has a rule); "
        "choose another of=, or fix the input's shape"
    )
    assert 0.4 < kp.plan_shrink(model, 0.6, of="parameters").reached <= 0.6


# Together with the rest


@pytest.mark.slow
def test_a_smaller_model_is_quantized_and_exported(tmp_path):
    model = network()
    x = np.random.default_rng(0).normal(size=(200, 8, 8, 3)).astype("float32")
    small = kp.shrink(model, 0.5)
    whole = kp.export(model, tmp_path / "a.tflite", quantization="int8", calibration=x)
    half = kp.export(small, tmp_path / "b.tflite", quantization="int8", calibration=x)
    assert half.breaches == () and half.bytes < 0.7 * whole.bytes


# Models of the literature, at half the multiply-accumulates: point 4 of what pruning must show


APPLICATIONS = (
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "ResNet50V2",
    "DenseNet121",
    "ConvNeXtTiny",
)


def application(name):
    keras.utils.set_random_seed(0)
    made = getattr(keras.applications, name)
    return scramble(made(weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None))


def assert_half(model, x, path):
    plan = kp.plan_shrink(model, 0.5)
    small = kp.shrink(model, 0.5)
    assert 0.47 <= macs(small) / macs(model) <= 0.5 and plan.reached == pytest.approx(macs(small) / macs(model))
    masked = kp.mask_channels(model, plan.masks)
    found, wanted, whole = (each.predict(x, verbose=0) for each in (small, masked, model))
    spread = float(np.abs(wanted).max())
    assert np.isfinite(found).all() and np.abs(found - wanted).max() < 1e-4 * spread
    assert np.abs(whole - wanted).max() > 1e-2 * spread
    artifact = kp.export(small, path, verify=x)
    assert artifact.breaches == () and artifact.agreement.argmax == 1.0
    return plan


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="converting needs Keras on TensorFlow")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_half_of_a_model_of_keras(name, tmp_path):
    x = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    model = application(name)
    plan = assert_half(model, x, tmp_path / "m.tflite")
    if name == "ConvNeXtTiny":
        kept = {fixed.reason.split()[0] for fixed in plan.fixed if fixed.reason != "output of the model"}
        assert kept == {"LayerNormalization"}
    else:
        assert [fixed.reason for fixed in plan.fixed] == ["output of the model"]


@pytest.mark.slow
@pytest.mark.skipif(
    not RESNET8.exists(), reason=f"no {RESNET8}: set KOMPAKT_SHARED to the folder with data/mlperf_tiny"
)
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="converting needs Keras on TensorFlow")
def test_half_of_resnet8(tmp_path):
    x = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    assert_half(kp.load_model(RESNET8), x, tmp_path / "m.tflite")
