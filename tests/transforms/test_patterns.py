"""Patterns: exactly the asked number of groups is masked, in TFLite's layout, ties or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kompakt as kp
from kompakt.axes import rows_back, rows_of
from kompakt.transforms.patterns import PATTERNS, Block, Channels, NofM, Unstructured, find_pattern

KERNELS = {
    "Dense": ((8, 6), (-1,)),
    "Conv2D": ((3, 3, 8, 6), (-1,)),
    "Conv2DTranspose": ((3, 3, 6, 8), (-2,)),
    "EinsumDense": ((8, 2, 3), (-2, -1)),
}
SHARES = st.floats(0.0, 0.99)
TIED = st.integers(0, 3)


def drawn(data, shape):
    """Scores with many ties."""
    return np.array([data.draw(TIED) for _ in range(int(np.prod(shape)))], "float32").reshape(shape)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def masked(share, groups):
    """The nearest whole number of groups; one is always kept."""
    return min(int(share * groups + 0.5), groups - 1)


def by_rows(mask, axis):
    return array(rows_of(ops.convert_to_tensor(mask), axis))


@pytest.mark.parametrize("kind", KERNELS)
def test_the_view_in_the_layout_of_the_file_can_be_undone(kind):
    shape, axis = KERNELS[kind]
    x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    rows = rows_of(ops.convert_to_tensor(x), axis)
    assert rows.shape[-1] == 8 and rows.shape[0] == 6
    assert np.array_equal(array(rows_back(rows, shape, axis)), x)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), share=SHARES, kind=st.sampled_from(sorted(KERNELS)))
def test_single_weights(data, share, kind):
    axis = KERNELS[kind][1]
    scores = drawn(data, (8, 6) if kind == "Dense" else (8, 2, 3))
    mask = array(Unstructured().mask(ops.convert_to_tensor(scores), share, axis))
    assert (mask == 0).sum() == masked(share, mask.size)
    assert scores[mask == 0].max(initial=-1) <= scores[mask == 1].min(initial=9)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), share=st.sampled_from([0.25, 0.5, 0.75]))
def test_n_of_m_masks_the_same_count_of_every_group_of_inputs(data, share):
    scores = drawn(data, (8, 6))
    groups = by_rows(NofM(2, 4).mask(ops.convert_to_tensor(scores), share, (-1,)), (-1,)).reshape(-1, 4)
    assert (groups.sum(-1) == 4 - round(share * 4)).all()


@pytest.mark.parametrize("kind", KERNELS)
def test_n_of_m_on_every_kernel_lies_along_the_inputs(kind):
    shape, axis = KERNELS[kind]
    scores = np.random.default_rng(0).random(shape).astype("float32")
    mask = NofM(2, 4).mask(ops.convert_to_tensor(scores), 0.5, axis)
    kept = by_rows(mask, axis).reshape(6, -1, 2, 4)
    seen = by_rows(scores, axis).reshape(6, -1, 2, 4)
    assert (kept.sum(-1) == 2).all()
    assert (np.where(kept == 1, seen, 9).min(-1) > np.where(kept == 0, seen, -9).max(-1)).all()


@settings(max_examples=20, deadline=None)
@given(data=st.data(), share=SHARES, rows=st.integers(1, 4), columns=st.integers(1, 5))
def test_blocks_are_whole_and_exactly_as_many_as_asked(data, share, rows, columns):
    scores = ops.convert_to_tensor(drawn(data, (8, 6)))
    pattern = Block(rows, columns)
    mask = by_rows(pattern.mask(scores, share, (-1,)), (-1,))[:, 0]
    blocks = [mask[i : i + rows, j : j + columns] for i in range(0, 6, rows) for j in range(0, 8, columns)]
    assert all(block.min() == block.max() for block in blocks)
    assert sum(block.max() == 0 for block in blocks) == masked(share, len(blocks))
    assert pattern.groups((8, 6), (-1,)) == len(blocks)


def test_an_edge_block_is_judged_by_the_mean_of_what_it_has():
    score = np.ones((3, 1), "float32")
    score[2] = 1.5
    assert array(Block(1, 2).mask(ops.convert_to_tensor(score), 0.5, (-1,))).ravel().tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("kind", KERNELS)
def test_channels_go_whole(kind):
    shape, axis = KERNELS[kind]
    scores = np.random.default_rng(1).random(shape).astype("float32")
    rows = by_rows(Channels().mask(ops.convert_to_tensor(scores), 0.5, axis), axis).reshape(6, -1)
    assert (rows.min(-1) == rows.max(-1)).all() and rows.max(-1).sum() == 3
    means = by_rows(scores, axis).reshape(6, -1).mean(-1)
    assert set(np.argsort(means)[3:]) == set(np.flatnonzero(rows.max(-1)))


@pytest.mark.parametrize("share", [0.5, 0.75, 0.99])
@pytest.mark.parametrize("pattern", [Unstructured(), Block(1, 4), Channels()])
def test_a_share_below_one_never_masks_a_whole_tensor(pattern, share):
    """tfmot #979: kernels of 1x1 convolutions lost."""
    mask = array(pattern.mask(ops.convert_to_tensor(np.ones((1, 1, 8, 2), "float32")), share, (-1,)))
    assert 0 < mask.sum() < mask.size
    assert array(pattern.mask(ops.ones((1, 1, 8, 2)), 1.0, (-1,))).sum() == 0


@pytest.mark.parametrize(
    ("pattern", "shape", "text"),
    [
        (Channels(), (1, 1, 8, 1), "Channels() makes one group of it, which is all or nothing"),
        (Block(1, 16), (1, 1, 8, 1), "Block(rows=1, columns=16) makes one group of it, which is all or nothing"),
        (Unstructured(), (1, 1, 1, 1), "Unstructured() makes one group of it, which is all or nothing"),
        (Block(1, 16), (1, 1, 8, 2), None),
        (Block(1, 4), (1, 1, 8, 1), None),
        (Channels(), (1, 1, 8, 2), None),
        (Unstructured(), (1, 1, 2, 1), None),
    ],
)
def test_one_group_alone_is_unfit(pattern, shape, text):
    assert pattern.unfit(shape, (-1,)) == text


@pytest.mark.parametrize("pattern", [Unstructured(), NofM(1, 4), Block(2, 3), Channels()])
def test_a_pattern_comes_back_from_its_config(pattern):
    assert find_pattern(pattern.to_config()) == pattern
    assert type(pattern).__name__ in PATTERNS


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("2-4", "pattern '2-4': expected one like '2:4', '1x16', 'channels' or 'unstructured'"),
        ("4:2", r"NofM\(4, 2\): expected 0 < n < m, such as NofM\(2, 4\): 2 of every 4 are zero"),
        ("0x4", r"Block\(0, 4\): expected both 1 or more, such as Block\(1, 16\)"),
        ({"name": "Blocks"}, "unknown pattern 'Blocks'; known: Unstructured, NofM, Block, MaxBlock, Channels"),
        ({"name": "Block", "row": 1}, "pattern Block: .*unexpected keyword argument 'row'"),
    ],
)
def test_what_is_no_pattern(given, text):
    with pytest.raises(kp.InputError, match=text):
        find_pattern(given)
