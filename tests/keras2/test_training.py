"""Models of Keras 2 are compiled as they were."""

import keras
import numpy as np
import pytest

from kompakt.errors import InputError
from kompakt.keras2.mends import Mends
from kompakt.keras2.training import compile_arguments
from kompakt.loading import load_model


def arguments(optimizer, mends=None, **more):
    return compile_arguments({"optimizer_config": optimizer, "loss": "mse", **more}, mends or Mends())


def test_a_decaying_rate(written):
    model = load_model(written / "keras2" / "sequential.h5", compiled=True)
    optimizer = model.optimizer
    assert type(optimizer).__name__ == "Adam" and model.loss == "categorical_crossentropy"
    assert int(optimizer.iterations) == 1
    assert float(optimizer.learning_rate) == pytest.approx(0.01 / (1 + 1e-3), rel=1e-5)
    model.fit(np.ones((6, 5)), np.eye(3)[[0, 1, 2, 0, 1, 2]], verbose=0)
    assert set(model.evaluate(np.ones((3, 5)), np.eye(3), verbose=0, return_dict=True)) == {"accuracy", "loss"}


def test_what_is_told(written, caplog):
    load_model(written / "keras2" / "sequential.h5", compiled=True)
    assert [each.getMessage() for each in caplog.records if each.name == "kompakt.keras2"] == [
        "sequential.h5: mended: optimizer Adam: decay=0.001 is the schedule InverseTimeDecay, which is the same",
        "sequential.h5: mended: optimizer Adam: what it had gathered (momentum and the like) begins anew; its step "
        "count is kept",
    ]


def test_an_optimizer_of_2_11_and_later(written):
    model = load_model(written / "keras2" / "deferred.h5", compiled=True)
    optimizer = model.optimizer
    assert type(optimizer).__name__ == "SGD" and optimizer.nesterov
    assert (optimizer.momentum, optimizer.clipnorm) == (0.9, 1.0)
    assert set(model.evaluate(np.ones((3, 5)), np.ones((3, 2)), verbose=0, return_dict=True)) == {"loss", "mae"}


def test_losses_by_output(written):
    model = load_model(written / "keras2" / "shared.h5", compiled=True)
    assert model.loss == {"one": "mse", "two": "mae"}
    x = np.ones((3, 4), "float32")
    found = model.evaluate([x, x], {"one": np.ones((3, 2)), "two": np.ones((3, 1))}, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(found["one_loss"] + 0.5 * found["two_loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["keras224_sequential", "keras224_recurrent", "tf115_sequential", "tf115_recurrent"])
def test_the_first_versions(written, name):
    model = load_model(written / "keras2_old" / f"{name}.h5", compiled=True)
    assert type(model.optimizer).__name__ in ("Adam", "RMSprop")


def test_names_of_the_rate():
    for key in ("lr", "learning_rate"):
        made = arguments({"class_name": "Custom>RMSprop", "config": {key: 0.25, "decay": 0.0, "epsilon": None}})
        assert float(made["optimizer"].learning_rate) == 0.25
        assert made["optimizer"].epsilon == keras.optimizers.RMSprop().epsilon


def test_a_schedule_and_mixed_precision():
    config = {"initial_learning_rate": 0.5, "decay_steps": 10, "decay_rate": 0.5}
    rate = {"class_name": "ExponentialDecay", "config": config}
    inner = {"class_name": "SGD", "config": {"learning_rate": rate}}
    made = arguments({"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": inner, "initial_scale": 8.0}})
    assert type(made["optimizer"]).__name__ == "LossScaleOptimizer"
    assert float(made["optimizer"].inner_optimizer.learning_rate) == 0.5


def test_settings_that_are_gone_are_told():
    mends = Mends()
    arguments({"class_name": "Nadam", "config": {"lr": 0.1, "schedule_decay": 0.004}}, mends)
    assert mends.lines() == ["optimizer Nadam: left out, Keras 3 has none: schedule_decay=0.004"]


def test_losses_and_metrics_as_objects():
    loss = {"class_name": "CategoricalCrossentropy", "config": {"reduction": "auto", "name": "x", "from_logits": True}}
    metric = {"class_name": "AUC", "config": {"name": "auc", "num_thresholds": 50}}
    config = {"optimizer_config": {"class_name": "SGD", "config": {}}, "loss": loss, "metrics": [[metric, "acc"]]}
    made = compile_arguments(config, Mends())
    assert made["loss"].from_logits and made["metrics"][0][0].num_thresholds == 50 and made["metrics"][0][1] == "acc"


@pytest.mark.parametrize(
    ("optimizer", "loss", "words"),
    [
        ("Mine", "mse", "made with the class 'Mine', which is not known here; register it"),
        ("SGD", "my_loss", "its loss 'my_loss' is not known here ("),
    ],
)
def test_what_is_not_known(optimizer, loss, words):
    with pytest.raises(InputError) as caught:
        compile_arguments({"optimizer_config": {"class_name": optimizer, "config": {}}, "loss": loss}, Mends())
    assert str(caught.value).startswith(words)
