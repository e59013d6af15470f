"""Pruning: schedules, scores, scope, rewinding, and what is left out and said."""

import logging
import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import kompakt as kp
from kompakt import testing as laws
from kompakt.attach import attach, chains_of, finalize, transforms_of
from kompakt.schedules import Constant, Cosine, Iterative, OneShot, Polynomial
from kompakt.topk import share_out
from kompakt.transforms import Prune

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def deep_model():
    keras.utils.set_random_seed(0)
    parts = [
        layers.Conv2D(4, 3, name="first"),
        layers.Conv2D(8, 3, name="second"),
        layers.Conv2D(8, 1, name="point"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Flatten(),
        layers.Dense(6, name="hidden"),
        layers.Dense(3, name="last"),
    ]
    return keras.Sequential([keras.Input((8, 8, 2)), *parts])


def linear_model(kernel):
    kernel = np.asarray(kernel, "float32")
    model = keras.Sequential([keras.Input((len(kernel),)), layers.Dense(kernel.shape[1], use_bias=False, name="d")])
    model.layers[0].kernel.assign(kernel)
    return model


def trained(model, steps, rate=0.0, **options):
    """Full-batch steps of plain gradient descent on loss = sum of outputs: the gradient of each weight is 1."""
    model.compile(keras.optimizers.SGD(rate), lambda y, p: ops.sum(p))
    x = np.ones((1, model.input_shape[1]), "float32")
    y = np.zeros((1, model.output_shape[1]), "float32")
    model.fit(x, y, batch_size=1, epochs=steps, verbose=0, callbacks=[kp.callbacks.Update()], **options)
    return model


def only(model):
    return next(transform for _, transform in transforms_of(model))


# --- scores


def test_taylor_is_the_moving_average_of_the_squared_product():
    kernel = [[1.0, -2.0], [3.0, 0.5]]
    attached = trained(kp.prune(linear_model(kernel), schedule=OneShot(0.5, begin=2), score="taylor"), 3)
    prune = only(attached)
    # Two products were taken in, the third waits in ``product``: its gradient is 1 everywhere.
    assert np.allclose(array(prune.memory), (0.1 + 0.9 * 0.1) * np.square(kernel), rtol=1e-5)
    assert np.allclose(array(prune.product), kernel)


def test_movement_sums_minus_gradient_times_weight_and_masks_what_moves_to_zero():
    kernel = [[1.0, -2.0], [3.0, -0.5]]
    attached = trained(kp.prune(linear_model(kernel), schedule=OneShot(0.5, begin=3), score="movement"), 4)
    # Gradient descent lowers every weight: the positive ones move towards zero and go.
    assert array(only(attached).mask).tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_masked_weights_are_watched_too_and_come_back():
    """Movement pruning is no one-way street: the gradient of a masked weight still counts in its score."""
    kernel = np.array([[1.0, -2.0], [3.0, -0.5]])
    attached = trained(kp.prune(linear_model(kernel), schedule=OneShot(0.5, begin=1), score="movement"), 5)
    assert np.allclose(array(only(attached).product), kernel)


def test_random_depends_on_the_seed_and_differs_between_layers():
    def masks(seed):
        return [array(t.mask) for _, t in transforms_of(kp.prune(deep_model(), 0.5, score="random", seed=seed))]

    assert all(np.array_equal(a, b) for a, b in zip(masks(1), masks(1), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(masks(1), masks(2), strict=True))


def test_l1_and_l2_rank_blocks_differently():
    kernel = np.array([[2.0, 3.9], [2.0, 0.0]])  # mean magnitude 2 and 1.95, mean square 4 and 7.6
    for score, kept in (("l1", 0), ("l2", 1)):
        mask = array(only(kp.prune(linear_model(kernel), 0.5, pattern="1x2", score=score)).mask)
        assert mask[:, kept].tolist() == [1.0, 1.0] and mask[:, 1 - kept].tolist() == [0.0, 0.0]


def test_a_score_of_a_layer_that_is_called_twice_counts_both_calls():
    shared = layers.Dense(2, use_bias=False, name="shared")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, shared(shared(inputs)))
    shared.kernel.assign(np.eye(2))
    attached = trained(kp.prune(model, schedule=Constant(0.1, begin=1, frequency=1), score="taylor"), 2)
    # d sum(x W W) / dW at W = 1: the two calls give a gradient of 1 each.
    assert np.allclose(array(only(attached).product), 2.0 * np.eye(2))
    assert np.isfinite(array(only(attached).memory)).all()


# --- schedules in training


@pytest.mark.parametrize(
    ("schedule", "zeros"),
    [
        (OneShot(0.5, begin=2), [0, 0, 8, 8, 8, 8]),
        (Constant(0.5, begin=1, frequency=2), [0, 8, 8, 8, 8, 8]),
        (Iterative(0.75, rounds=2, begin=1, every=2), [0, 8, 8, 12, 12, 12]),
        (Polynomial(0.0, 0.75, begin=0, end=4, power=1.0, frequency=2), [0, 0, 6, 6, 12, 12]),
        (Cosine(0.0, 0.5, begin=0, end=4, frequency=2), [0, 0, 4, 4, 8, 8]),
    ],
)
def test_zeros_follow_the_schedule(schedule, zeros):
    attached = kp.prune(linear_model(np.arange(1, 17).reshape(4, 4)), schedule=schedule)
    seen = []

    def count(*_, **__):
        if hasattr(attached, "jax_state_sync"):  # the JAX trainer keeps the state to itself between batches
            attached.jax_state_sync()
        seen.append(int((array(only(attached).mask) == 0).sum()))

    callbacks = [kp.callbacks.Update(), keras.callbacks.LambdaCallback(on_train_batch_begin=count)]
    attached.compile(keras.optimizers.SGD(0.0), "mse")
    attached.fit(np.ones((6, 4)), np.ones((6, 4)), batch_size=1, verbose=0, callbacks=callbacks)
    assert seen == zeros


@pytest.mark.parametrize(
    "schedule", [Polynomial(0.0, 0.75, begin=0, end=1000), OneShot(0.5, begin=6), Constant(0.5, begin=10)]
)
def test_a_schedule_that_would_never_act_is_an_error_before_training(schedule):
    """tfmot's default schedule does nothing under 100 steps, and does not say so."""
    attached = kp.prune(linear_model(np.ones((4, 4))), schedule=schedule)
    before = array(attached.get_weights()[0])
    text = r"would do nothing in the 6 steps of this training \(steps are batches\): begin earlier, act more often"
    with pytest.raises(kp.InputError, match=text):
        trained(attached, 6, rate=0.1)
    assert np.array_equal(array(attached.get_weights()[0]), before)


def test_training_on_after_the_end_of_a_schedule_is_no_error():
    attached = kp.prune(linear_model(np.arange(1, 5).reshape(2, 2)), schedule=OneShot(0.5, begin=0))
    trained(attached, 2)
    attached.fit(np.ones((1, 2)), np.ones((1, 2)), verbose=0, callbacks=[kp.callbacks.Update()])
    assert (array(only(attached).mask) == 0).sum() == 2


def test_each_round_starts_from_the_early_weights_again():
    kernel = np.array([[4.0, 3.0], [2.0, 1.0]])
    schedule = Iterative(0.75, rounds=2, begin=3, every=2)
    attached = trained(kp.prune(linear_model(kernel), schedule=schedule, rewind=1), 6, rate=0.125)
    # The weights fall by 1/8 a step where they are not masked: rewound at steps 3 and 5 to those of step 1.
    variable = next(variable for _, _, variable in chains_of(attached))
    assert np.allclose(array(variable), [[4.0 - 0.25, 3.0 - 0.125], [2.0 - 0.125, 1.0 - 0.125]])
    assert array(only(attached).mask).tolist() == [[1.0, 0.0], [0.0, 0.0]]


# --- scope


def test_share_out_takes_the_lowest_of_all_within_the_limits():
    scores = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 0.2, 0.3, 0.4])]
    assert share_out(scores, [1, 1], 4, [(0, 4), (0, 4)]) == (0, 4)
    assert share_out(scores, [1, 1], 4, [(1, 4), (0, 3)]) == (1, 3)
    assert share_out(scores, [1, 1], 8, [(0, 4), (0, 3)]) == (4, 3)
    assert share_out(scores, [3, 1], 5, [(0, 4), (0, 4)]) == (0, 4)  # a group of 3 would be 7


def test_global_scope_prunes_the_layers_with_small_weights_more():
    model = deep_model()
    model.get_layer("point").kernel.assign(model.get_layer("point").kernel * 100.0)
    shares = {}
    for scope in ("layer", "global"):
        _, encodings = finalize(kp.prune(model, 0.5, scope=scope, sites=["second/*", "point/*"]))
        shares[scope] = {name: encodings[f"{name}/kernel"].zeros for name in ("second", "point")}
    assert shares["layer"] == {"second": 144, "point": 32}
    assert shares["global"] == {"second": 176, "point": 0}


def test_limits_hold_in_global_scope():
    model = deep_model()
    model.get_layer("point").kernel.assign(model.get_layer("point").kernel * 100.0)
    limits = {"point/*": (0.25, 1.0), "*": (0.0, 0.5)}
    _, encodings = finalize(kp.prune(model, 0.5, scope="global", limits=limits, sites=["second/*", "point/*"]))
    assert encodings["second/kernel"].zeros == 144 and encodings["point/kernel"].zeros == 32


def test_global_scope_follows_a_schedule_and_survives_save_and_load(tmp_path):
    x, y = laws.toy_data(48)
    schedule = Polynomial(0.0, 0.5, begin=0, end=5, frequency=1)
    attached = kp.prune(deep_model(), schedule=schedule, scope="global", sites=["second/*", "point/*"])
    attached.compile("sgd", SPARSE)
    attached.fit(x[:24], y[:24], batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
    attached.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    loaded.fit(x, y, batch_size=8, verbose=0, callbacks=[kp.callbacks.Update()])
    _, encodings = finalize(loaded)
    assert encodings["second/kernel"].zeros + encodings["point/kernel"].zeros == 176


def test_a_training_that_ends_a_step_too_early_is_told_in_numbers_that_differ():
    attached = kp.prune(deep_model(), schedule=Polynomial(0.0, 0.5, begin=0, end=30, frequency=1), sites=["second/*"])
    attached.compile("sgd", SPARSE)
    x, y = laws.toy_data(30)
    attached.fit(x, y, batch_size=1, verbose=0, callbacks=[kp.callbacks.Update()])
    assert finalize(attached)[1]["second/kernel"].shortfall.startswith("pruned to 0.499981481 of the 0.5 asked")


# --- what is pruned, and what is said of the rest


def test_first_last_and_depthwise_are_left_out_and_told(caplog):
    with caplog.at_level(logging.WARNING, logger="kompakt"):
        _, encodings = finalize(kp.prune(deep_model(), 0.5))
    assert sorted(encodings) == ["hidden/kernel", "point/kernel", "second/kernel"]
    said = "\n".join(caplog.messages)
    assert "first/kernel: left as it is (the first and the last layer cost most accuracy; name it in sites=" in said
    assert "last/kernel: left as it is" in said and "depthwise/kernel: left as it is (depthwise kernels" in said


def test_what_is_named_is_pruned():
    _, encodings = finalize(kp.prune(deep_model(), 0.5, sites=["first/*", "last/kernel", "depthwise/kernel"]))
    assert sorted(encodings) == ["depthwise/kernel", "first/kernel", "last/kernel"]


def test_by_type_and_by_predicate():
    _, by_type = finalize(kp.prune(deep_model(), 0.5, sites=layers.Dense))
    assert sorted(by_type) == ["hidden/kernel", "last/kernel"]
    _, big = finalize(kp.prune(deep_model(), 0.5, sites=lambda site: len(site.variable.shape) == 4))
    assert sorted(big) == ["depthwise/kernel", "first/kernel", "point/kernel", "second/kernel"]


def test_an_unfit_layer_is_left_by_a_star_and_refused_by_name(caplog):
    with caplog.at_level(logging.WARNING, logger="kompakt"):
        _, encodings = finalize(kp.prune(deep_model(), pattern="3:8"))
    assert sorted(encodings) == ["hidden/kernel", "point/kernel"]
    assert any("second/kernel: left as it is (3:8 needs input channels in" in text for text in caplog.messages)
    with pytest.raises(kp.InputError, match=r"second/kernel, of shape .*: 3:8 needs input channels in multiples of 8"):
        kp.prune(deep_model(), pattern="3:8", sites="second/kernel")


def narrow_model():
    """With a 1x1 convolution of one filter in the middle."""
    keras.utils.set_random_seed(0)
    parts = [layers.Conv2D(8, 3, name="first"), layers.Conv2D(1, 1, name="narrow"), layers.Conv2D(4, 3, name="wide")]
    parts += [layers.Flatten(), layers.Dense(3, name="last")]
    return keras.Sequential([keras.Input((8, 8, 2)), *parts])


@pytest.mark.parametrize(("pattern", "name"), [("channels", "Channels()"), ("1x16", "Block(rows=1, columns=16)")])
def test_a_layer_of_one_group_is_left_by_a_star_and_refused_by_name(pattern, name, caplog):
    """It was masked whole without a word, as tfmot does with kernels of 1x1 convolutions (its issue 979)."""
    with caplog.at_level(logging.WARNING, logger="kompakt"):
        _, encodings = finalize(kp.prune(narrow_model(), 0.5, pattern=pattern))
    assert sorted(encodings) == ["wide/kernel"]
    assert any(text.startswith(f"narrow/kernel: left as it is ({name} makes one group") for text in caplog.messages)
    text = rf"narrow/kernel, of shape \(1, 1, 8, 1\): {re.escape(name)} makes one group of it, which is all or nothing"
    with pytest.raises(kp.InputError, match=text):
        kp.prune(narrow_model(), 0.5, pattern=pattern, sites=["narrow/*", "wide/*"])


def test_a_share_that_comes_to_all_groups_keeps_one_and_says_so():
    _, encodings = finalize(kp.prune(narrow_model(), 0.9, pattern="channels", sites="wide/*"))
    assert encodings["wide/kernel"].zeros == 27 and encodings["wide/kernel"].shortfall == (
        "1 of its 4 groups of weights is kept, though a share of 0.9 of them comes to all: no tensor is masked whole"
    )
    _, encodings = finalize(kp.prune(narrow_model(), 0.75, pattern="channels", sites="wide/*"))
    assert encodings["wide/kernel"].zeros == 27 and encodings["wide/kernel"].shortfall == ""


def test_all_tensors_ranked_together_empty_none_of_them():
    model = deep_model()
    model.get_layer("point").kernel.assign(model.get_layer("point").kernel * 1e-6)
    options = {"scope": "global", "sites": ["second/*", "point/*"], "pattern": "channels"}
    _, encodings = finalize(kp.prune(model, 0.5, **options))
    assert encodings["point/kernel"].zeros == 56 and encodings["point/kernel"].shortfall == (
        "1 of its 8 groups of weights is kept, the least in scope 'global': give lower limits= to keep more"
    )
    assert encodings["second/kernel"].zeros == 108 and encodings["second/kernel"].shortfall == ""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "give sparsity or keep='zeros', one of the two"),
        ({"sparsity": 0.5, "schedule": OneShot(0.6)}, "sparsity 0.5, but the schedule ends at 0.6: expected the same"),
        ({"sparsity": 1.0}, "sparsity 1.0: expected a share from 0 to below 1, such as 0.75"),
        ({"sparsity": 0.5, "score": "l3"}, "score 'l3': expected one of l1, l2, taylor, movement, random"),
        ({"sparsity": 0.5, "score": "taylor"}, "score 'taylor' is gathered in training: give a schedule= that begins"),
        ({"sparsity": 0.5, "scope": "all"}, "scope 'all': expected one of layer, global"),
        ({"sparsity": 0.5, "limits": (0.1, 0.9)}, "limits= belongs to scope='global'"),
        ({"sparsity": 0.5, "rewind": 1}, "rewind=1: expected a step, a whole number from 0 to the schedule's begin"),
        ({"sparsity": 0.75, "pattern": "2:4"}, r"NofM\(n=2, m=4\) masks a share of 0.5: received 0.75"),
        ({"pattern": "2:4", "scope": "global"}, "it masks the same share everywhere; leave scope out"),
        ({"sparsity": 0.5, "policy": "xnpack"}, "policy 'xnpack': expected one of xnnpack; nearest: 'xnnpack'"),
        ({"sparsity": 0.5, "sites": layers.LSTM}, "sites=: no layer of type LSTM; the model has first/kernel"),
        ({"sparsity": 0.5, "sites": lambda site: False}, "sites=: no site that the predicate takes"),
        ({"sparsity": 0.5, "sites": "secnd/*"}, "no site matches 'secnd/\\*'; nearest: 'second/kernel'"),
    ],
)
def test_what_cannot_be_asked(given, text):
    with pytest.raises(kp.InputError, match=text):
        kp.prune(deep_model(), **given)


SHARE = "expected a share from 0 to below 1, such as 0.75"
PAIR = "expected (least, most), two shares from 0 to 1, the lower first"
STEP = (
    "expected a step, a whole number from 0 to the schedule's begin, and a schedule= that masks in rounds, such as "
    "kompakt.schedules.Iterative"
)
RISES = "Polynomial(initial=0.0, final=1.0, begin=0, end=9, power=3.0, frequency=1)"
FALLS = "Cosine(initial=1.0, final=0.5, begin=0, end=9, frequency=1)"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"sparsity": "0.5"}, f"sparsity '0.5': {SHARE}"),
        ({"sparsity": float("nan")}, f"sparsity nan: {SHARE}"),
        ({"sparsity": True}, f"sparsity True: {SHARE}"),
        (
            {"schedule": "x"},
            "schedule 'x': expected one of kompakt.schedules, such as Polynomial(0.0, 0.75, begin=0, end=1000)",
        ),
        (
            {"schedule": Polynomial(0.0, 1.0, begin=0, end=9, frequency=1)},
            f"{RISES} reaches 1, which leaves no weight: expected shares below 1, such as 0.75",
        ),
        (
            {"schedule": Cosine(1.0, 0.5, begin=0, end=9, frequency=1)},
            f"{FALLS} reaches 1, which leaves no weight: expected shares below 1, such as 0.75",
        ),
        ({"schedule": Iterative(0.5, rounds=2, begin=4, every=2), "rewind": 2.5}, f"rewind=2.5: {STEP}"),
        ({"schedule": Iterative(0.5, rounds=2, begin=4, every=2), "rewind": "2"}, f"rewind='2': {STEP}"),
        ({"schedule": Iterative(0.5, rounds=2, begin=4, every=2), "rewind": 5}, f"rewind=5: {STEP}"),
        ({"sparsity": 0.5, "seed": "a"}, "seed 'a': expected a whole number"),
        ({"sparsity": 0.5, "seed": 1.5, "score": "random"}, "seed 1.5: expected a whole number"),
        (
            {"sparsity": 0.5, "score": ["l1"]},
            "score ['l1']: expected one of l1, l2, taylor, movement, random; nearest: 'l1'",
        ),
        ({"sparsity": 0.5, "policy": ["x"]}, "policy ['x']: expected one of xnnpack"),
        ({"sparsity": 0.5, "keep": 3}, "keep=3: expected 'zeros'; known: zeros"),
        (
            {"sparsity": 0.5, "sites": ["point/*", 3]},
            "sites= has 3: expected glob patterns such as 'name/kernel', types of layers or predicates on a Site",
        ),
        ({"sparsity": 0.5, "scope": "global", "limits": (0.9, 0.1)}, f"limits (0.9, 0.1): {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": (0.1,)}, f"limits (0.1,): {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": (0.1, 0.5, 0.9)}, f"limits (0.1, 0.5, 0.9): {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": (-0.1, 0.9)}, f"limits (-0.1, 0.9): {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": (0.1, 1.5)}, f"limits (0.1, 1.5): {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": 0.9}, f"limits 0.9: {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": ("0", "1")}, f"limits ('0', '1'): {PAIR}"),
        ({"sparsity": 0.5, "scope": "global", "limits": {"point/*": (0.1,)}}, f"limits (0.1,): {PAIR}"),
        (
            {"sparsity": 0.5, "scope": "global", "limits": {"*": (0, 0.9), "pint/*": (0, 0.1)}},
            "no site matches 'pint/*'; nearest: 'point/kernel'",
        ),
    ],
)
def test_what_is_refused_in_one_line(given, text):
    with pytest.raises(kp.InputError) as caught:
        kp.prune(deep_model(), **given)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("given", "goal", "admitted"),
    [
        ({"sparsity": 0.9, "limits": (0, 0.3)}, "0.9", "0 to 0.3"),
        ({"sparsity": 0.1, "limits": (0.5, 1)}, "0.1", "0.5 to 1"),
        ({"schedule": OneShot(0.9, begin=5), "limits": (0, 0.3)}, "0.9", "0 to 0.3"),
        ({"sparsity": 0.5, "limits": {"second/*": (0, 0.25)}}, "0.5", "0 to 0.386"),
    ],
)
def test_limits_that_do_not_admit_the_share_asked_are_refused_before_training(given, goal, admitted):
    with pytest.raises(kp.InputError) as caught:
        kp.prune(deep_model(), scope="global", sites=["second/*", "point/*"], **given)
    assert str(caught.value) == (
        f"sparsity {goal} with limits= that admit shares from {admitted} of all 2 tensors together: expected one "
        "between, change either"
    )


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_limits_that_just_admit_the_share_asked_are_taken(share):
    limits = (0, 0.3) if share == 0.3 else (0.7, 1)
    options = {"scope": "global", "sites": ["second/*", "point/*"], "limits": limits}
    _, encodings = finalize(kp.prune(deep_model(), share, **options))
    assert encodings["second/kernel"].zeros / 288 == pytest.approx(share, abs=1 / 288)
    assert encodings["point/kernel"].zeros / 64 == pytest.approx(share, abs=1 / 64)


def test_the_limits_of_a_site_that_is_left_out_are_no_mistake():
    _, encodings = finalize(kp.prune(deep_model(), 0.5, scope="global", limits={"first/*": (0.0, 0.1)}))
    assert "first/kernel" not in encodings


def test_n_of_m_is_refused_on_a_depthwise_kernel():
    """It would group along the width of the kernel, which is 4 here: no input channels are there to group."""
    inputs = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(4, name="depthwise")(inputs)
    model = keras.Model(inputs, layers.SeparableConv2D(8, 4, name="separable")(x))
    reason = "the pattern groups weights along input channels, and a depthwise kernel has one input channel each"
    for name, shape in (("depthwise/kernel", (4, 4, 4, 1)), ("separable/depthwise_kernel", (4, 4, 4, 1))):
        with pytest.raises(kp.InputError) as caught:
            kp.prune(model, pattern="2:4", sites=[name, "separable/pointwise_kernel"])
        assert str(caught.value) == f"{name}, of shape {shape}: {reason}"
    assert list(finalize(kp.prune(model, pattern="2:4"))[1]) == ["separable/pointwise_kernel"]
    assert kp.finalize(kp.prune(model, 0.5, sites="depthwise/kernel"))[1]["depthwise/kernel"].zeros == 32


def test_a_schedule_gives_the_sparsity_by_itself():
    attached = kp.prune(deep_model(), schedule=OneShot(0.5, begin=0), sites="point/*")
    assert only(attached).goal == 0.5


def test_pruning_is_exactly_undone_where_it_kept_everything():
    model, (x, _) = deep_model(), laws.toy_data(4)
    attached = attach(model, {"second/kernel": [Prune(0.0)]})
    assert np.array_equal(array(attached(x)), array(model(x)))
