"""What every pattern, score and scope leaves at the end of its schedule, found again in NumPy. Runs on each backend.

The model is linear and does not move (a learning rate of 0), so the gradient of each kernel at each step is known:
it is that of ``sum(targets * outputs)``. The groups of each pattern are laid out here by hand, in Keras' own order.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kompakt import testing as laws
from kompakt.attach import attach, finalize, transforms_of
from kompakt.callbacks import Update
from kompakt.schedules import Polynomial
from kompakt.transforms import Prune
from kompakt.transforms.scores import SCORES

BATCH, LAST_ACT, STEPS = 2, 5, 7
LIMITS = (0.1, 0.8)
KINDS = {
    "dense": lambda name: layers.Dense(6, use_bias=False, name=name),
    "conv": lambda name: layers.Conv2D(6, 3, use_bias=False, name=name),
    "point": lambda name: layers.Conv2D(6, 1, use_bias=False, name=name),
    "depthwise": lambda name: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name=name),
}


def places(shape, kind):
    """(output channel, place, input channel) of each weight of a kernel, as TFLite numbers them."""
    at = np.indices(shape)
    if kind == "dense":
        return at[1], np.zeros(shape, int), at[0]
    if kind == "depthwise":
        return at[2] * shape[3] + at[3], at[0], at[1]
    return at[3], at[0] * shape[1] + at[1], at[2]


def numbered(*parts):
    """One number for each combination of ``parts``."""
    return np.ravel_multi_index(parts, tuple(int(part.max()) + 1 for part in parts))


def blocks(rows, columns):
    return lambda out, place, into: numbered(out // rows, place, into // columns)


def one_each(out, place, into):
    return numbered(out, place, into)


PATTERNS = {
    "unstructured": one_each,
    "1:2": blocks(1, 2),
    "2:4": blocks(1, 4),
    "2x3": blocks(2, 3),
    "2x4": blocks(2, 4),
    "channels": lambda out, place, into: out,
}
"""Pattern -> which weights go together; for N:M, those of which N are masked."""


def gradient(kind, x, c):
    """Of ``sum(c * layer(x))`` with respect to the kernel."""
    if kind == "dense":
        return x.T @ c
    side = 1 if kind == "point" else 3
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    if kind == "depthwise":
        return np.einsum("npqcij,npqcm->ijcm", windows, c.reshape(*c.shape[:3], x.shape[-1], 2))
    return np.einsum("npqcij,npqo->ijco", windows, c)


def score_by_hand(score, kernel, gradients, seed):
    """The score of each weight after the steps whose ``gradients`` are given."""
    if score == "random":
        return np.array(ops.convert_to_numpy(keras.random.uniform(kernel.shape, seed=seed)), "float64")
    found = {"l1": np.abs(kernel), "l2": kernel**2, "taylor": 0.0 * kernel, "movement": 0.0 * kernel}[score]
    for product in (g * kernel for g in gradients):
        if score == "taylor":
            found = 0.9 * found + 0.1 * product**2
        elif score == "movement":
            found = found - product
    return found


def counts_by_hand(scores, groups, share):
    """How many groups of each tensor go where the lowest of all tensors do, within the limits."""
    drop = int(share * sum(s.size for s in scores.values()) + 0.5)
    counts, queue = {}, []
    for name, score in scores.items():
        size = np.bincount(groups[name].ravel())
        means = np.sort(np.bincount(groups[name].ravel(), score.ravel()) / size)
        counts[name] = int(LIMITS[0] * len(means) + 0.5)
        drop -= counts[name] * int(size[0])
        queue += [(mean, int(size[0]), name) for mean in means[counts[name] : int(LIMITS[1] * len(means))]]
    for _, size, name in sorted(queue):
        drop -= size
        if drop < 0:
            break
        counts[name] += 1
    return counts


def trained(pattern, scope):
    """(attached model past the end of its schedules, {name: (kind, score, kernel, gradient a step, seed)}, share)."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    share = 0.5 if ":" in pattern else 0.6
    flat, image = keras.Input((8,)), keras.Input((5, 5, 8))
    kinds = [kind for kind in KINDS if not (kind == "depthwise" and ":" in pattern)]
    made = {f"{kind}_{score}": (kind, score) for score in SCORES for kind in kinds}
    outputs = [KINDS[kind](name)(flat if kind == "dense" else image) for name, (kind, _) in made.items()]
    model = keras.Model([flat, image], layers.Concatenate()([layers.Flatten()(o) for o in outputs]))
    x = [random.normal(size=(BATCH * STEPS, *i.shape[1:])).astype("float32") for i in (flat, image)]
    y = random.normal(size=(BATCH * STEPS, model.output_shape[1])).astype("float32")

    schedule = Polynomial(0.0, share, begin=1, end=LAST_ACT, frequency=1)
    limits = LIMITS if scope == "global" else (0.0, 1.0)
    options = {"schedule": schedule, "pattern": pattern, "scope": scope, "limits": limits}
    chains = {f"{n}/kernel": [Prune(score=s, seed=i, **options)] for i, (n, (_, s)) in enumerate(made.items())}
    attached = attach(model, chains)
    attached.compile(keras.optimizers.SGD(0.0), lambda true, found: ops.sum(true * found))
    attached.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[Update()])

    ends = np.cumsum([int(np.prod(o.shape[1:])) for o in outputs])
    facts = {}
    for seed, (name, (kind, score)) in enumerate(made.items()):
        target = y[:, ends[seed] - int(np.prod(outputs[seed].shape[1:])) : ends[seed]]
        target, given = target.reshape(-1, *outputs[seed].shape[1:]), x[kind != "dense"]
        steps = [slice(t * BATCH, (t + 1) * BATCH) for t in range(LAST_ACT)]
        gradients = [gradient(kind, given[at].astype("float64"), target[at].astype("float64")) for at in steps]
        kernel = model.get_layer(name).get_weights()[0].astype("float64")
        facts[f"{name}/kernel"] = (kind, score, kernel, gradients, seed)
    return attached, facts, share


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(
    ("pattern", "scope"),
    [*((pattern, "layer") for pattern in PATTERNS), *((p, "global") for p in ("unstructured", "2x4", "channels"))],
)
def test_the_groups_of_the_lowest_score_are_gone(pattern, scope):
    attached, facts, share = trained(pattern, scope)
    masks = {name: np.array(ops.convert_to_numpy(t.mask)) for name, t in transforms_of(attached)}
    assert set(masks) == set(facts) and {row[1] for row in facts.values()} == set(SCORES)
    scores = {name: score_by_hand(*row[1:]) for name, row in facts.items()}
    groups = {name: PATTERNS[pattern](*places(row[2].shape, row[0])) for name, row in facts.items()}
    counts = {}
    for score in SCORES if scope == "global" else ():
        rows = [name for name in facts if facts[name][1] == score]
        counts |= counts_by_hand({n: scores[n] for n in rows}, {n: groups[n] for n in rows}, share)
    for name, mask in masks.items():
        if ":" in pattern:
            n, m = map(int, pattern.split(":"))
            for one in np.unique(groups[name]):
                inside = groups[name] == one
                assert inside.sum() == m
                laws.check_lowest_go(mask[inside], scores[name][inside], np.arange(m), n)
        else:
            k = counts.get(name, int(share * len(np.unique(groups[name])) + 0.5))
            laws.check_lowest_go(mask, scores[name], groups[name], k)

    plain, encodings = finalize(attached)
    for name, mask in masks.items():
        kernel = plain.get_layer(name.split("/")[0]).get_weights()[0]
        assert np.array_equal(kernel, (facts[name][2] * mask).astype("float32"))
        assert encodings[name].zeros == (mask == 0).sum() > 0


def test_the_law_can_be_broken():
    score, groups = np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 0, 1, 1])
    laws.check_lowest_go([1, 1, 0, 0], score, groups, 1)
    for mask, k, text in [
        ([0.3, 0.3, 0, 0], 1, "the mask holds 0.3, expected zeros and ones alone"),
        ([1, 0, 0, 0], 1, "1 of 2 groups are masked in part"),
        ([1, 1, 0, 0], 2, "2 groups were to be masked, 1 of 2 are"),
        ([0, 0, 1, 1], 1, "a group of score 3.5 is masked, one of 1.5 is kept"),
    ]:
        with pytest.raises(laws.LawBroken, match=text):
            laws.check_lowest_go(mask, score, groups, k)
