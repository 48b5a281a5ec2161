"""The network: one flat vector, the whole gradient, nothing allocated, and that it learns."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import assert_gradient
from scipy.special import softmax

from lenet.errors import ConfigError, OrderError
from lenet.models.lenet5 import lenet5
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.fused import fuse
from lenet.nn.linear import Linear
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.unpooling import MaxUnpooling

plain_and_fused = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])


def small_layers(activation="relu", pool=MaxPooling):
    """LeNet-5 in small: 2×10×10 → 3×8×8 → 3×4×4 → 4×2×2 → 5 → 3."""
    return [
        Convolution("C1", 3, 3),
        Activation("C1.activation", activation),
        pool("S2", 2),
        Convolution("C3", 4, 3, padding=1),
        Activation("C3.activation", activation),
        pool("S4", 2),
        Convolution("C5", 5, 2),
        Activation("C5.activation", activation),
        Linear("F6", 3),
    ]


def small(fused=False, **options):
    layers = small_layers(**options)
    network = Network(fuse(layers) if fused else layers, (2, 10, 10), np.float64)
    network.initialize(np.random.default_rng(0), "glorot")
    network.parameters[~network.decays] = 0.1
    return network


def batch(shape, N, classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*shape, N)), rng.integers(0, classes, N)


# --- The gradient of the whole ------------------------------------------------------------------


@plain_and_fused
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "lecun_tanh"])
@pytest.mark.parametrize("pool", [MaxPooling, AveragePooling])
def test_every_parameter_against_central_differences(fused, activation, pool):
    """Cross-entropy with smoothed labels, plus ½·λ·Σ‖W‖², whose gradient is +λW."""
    network = small(fused, activation=activation, pool=pool)
    x, labels = batch((2, 10, 10), 3, 3)
    loss, decay = SoftmaxCrossEntropy(3, label_smoothing=0.1), 0.01

    def total():
        penalty = 0.5 * decay * np.sum(network.decays * network.parameters**2)
        return loss.forward(network.forward(x), labels) + penalty

    total()
    network.backward(loss.backward())
    gradient = network.gradients + decay * network.decays * network.parameters
    assert_gradient(total, network.parameters, gradient, kinks=0.03)


@plain_and_fused
def test_lenet5_against_central_differences(fused):
    """Twenty numbers of every parameter of the network itself."""
    network = lenet5(fused=fused, dtype=np.float64)
    network.initialize(np.random.default_rng(0))
    x, labels = batch((1, 32, 32), 2, 10)
    loss = SoftmaxCrossEntropy(10)

    def total():
        return loss.forward(network.forward(x), labels)

    total()
    network.backward(loss.backward())
    rng = np.random.default_rng(1)
    for p in network.parameter_list:
        some = rng.choice(p.size, min(p.size, 20), replace=False)
        assert_gradient(total, p.value, p.gradient.copy(), some, kinks=0.2)


# --- The flat vectors ---------------------------------------------------------------------------


def test_parameters_are_views_in_the_order_of_the_layers():
    network = small()
    names = [p.name for p in network.parameter_list]
    assert names == [f"{c}.{kind}" for c in ("C1", "C3", "C5", "F6") for kind in ("weight", "bias")]
    for vector, arrays in [
        (network.parameters, [p.value for p in network.parameter_list]),
        (network.gradients, [p.gradient for p in network.parameter_list]),
    ]:
        vector[:] = np.arange(vector.size)
        assert_array_equal(np.concatenate([a.ravel() for a in arrays]), vector)
        arrays[0][...] = -1
        assert (vector[: arrays[0].size] == -1).all()


def test_gradients_are_overwritten():
    network = small()
    x, labels = batch((2, 10, 10), 4, 3)
    loss = SoftmaxCrossEntropy(3)
    results = []
    for _ in range(2):
        network.gradients.fill(np.nan)
        loss.forward(network.forward(x), labels)
        network.backward(loss.backward())
        results.append(network.gradients.copy())
    assert np.isfinite(results[0]).all()
    assert_array_equal(*results)


def test_bind_takes_the_vectors_as_they_are():
    """Workers put the network's vectors into shared memory: the values there are kept."""
    network = small()
    x, _ = batch((2, 10, 10), 4, 3)
    scores = network.forward(x).copy()
    shared, gradients = network.parameters.copy(), np.empty_like(network.gradients)
    kept = shared.copy()
    network.parameters.fill(0)
    network.bind(shared, gradients)
    assert network.parameters is shared
    assert_array_equal(shared, kept)
    assert_array_equal(network.forward(x), scores)
    network.backward(np.ones_like(scores))
    assert np.isfinite(gradients).all()
    shared *= 0
    assert_array_equal(network.forward(x), 0)


def test_decays_marks_the_weights():
    network = small()
    expected = np.concatenate(
        [np.full(p.size, p.name.endswith("weight")) for p in network.parameter_list]
    )
    assert_array_equal(network.decays, expected)


def test_initialize_is_a_function_of_the_generator():
    first, second = small(), small()
    for network, seed in ((first, 5), (second, 5)):
        network.initialize(np.random.default_rng(seed), "lecun")
    assert_array_equal(first.parameters, second.parameters)
    assert (first.parameters[~first.decays] == 0).all()
    weight = first.parameter_list[2].value  # C3: 108 numbers of variance 1/fan_in
    assert weight.std() == pytest.approx((1 / (3 * 9)) ** 0.5, rel=0.2)
    second.initialize(np.random.default_rng(6), "lecun")
    assert (first.parameters != second.parameters).any()


# --- What is not computed, not allocated, not kept ----------------------------------------------


@plain_and_fused
def test_the_first_trained_layer_computes_no_dx(fused):
    network = small(fused)
    x, _ = batch((2, 10, 10), 2, 3)
    network.backward(network.forward(x).copy())
    assert [layer.needs_dx for layer in network.executed] == [
        False,
        *[True] * (len(network.executed) - 1),
    ]
    assert network.executed[0].backward(np.ones((*network.executed[1].shape, 2))) is None


def test_layers_below_the_first_trained_one_are_not_run_backward():
    class Silent(AveragePooling):
        def backward(self, dy):
            raise AssertionError("this gradient is not needed")

    network = Network([Silent("S", 2), Linear("F", 3)], (2, 10, 10), np.float64)
    network.backward(network.forward(np.ones((2, 10, 10, 2))))
    assert network.first_trained == 1


@plain_and_fused
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_a_training_step_allocates_nothing_that_grows_with_the_batch(fused, pooling):
    def peak(N):
        network = lenet5(fused=fused, pooling=pooling)
        network.initialize(np.random.default_rng(0))
        loss = SoftmaxCrossEntropy(10, label_smoothing=0.1)
        x = np.random.default_rng(0).random((1, 32, 32, N), np.float32)
        labels = np.arange(N, dtype=np.uint8) % 10

        def step():
            loss.forward(network.forward(x), labels)
            network.backward(loss.backward())

        step()
        tracemalloc.start()
        step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest - before

    # NumPy converts types through buffers of up to 8,192 numbers, which 64 images nearly fill.
    # Beyond them 64 bytes an image would show; one activation of C1 alone takes 18,816.
    assert peak(256) - peak(64) < 192 * 64


@plain_and_fused
def test_changing_batches(fused):
    network = small(fused)
    x, _ = batch((2, 10, 10), 8, 3)
    for N in (8, 3, 8, 1):
        once = small(fused)
        z = once.forward(x[..., :N])
        assert_allclose(network.forward(x[..., :N]), z, rtol=1e-12)
        once.backward(np.ones_like(z))
        network.backward(np.ones_like(z))
        assert_allclose(network.gradients, once.gradients, rtol=1e-12, atol=1e-13)


@plain_and_fused
def test_an_image_is_alone_in_its_batch(fused):
    """What an image scores does not depend on the others."""
    network = small(fused)
    x, _ = batch((2, 10, 10), 6, 3)
    z = network.forward(x).copy()
    order = np.array([4, 0, 5, 2, 1, 3])
    assert_allclose(network.forward(np.ascontiguousarray(x[..., order])), z[:, order], rtol=1e-12)
    assert_allclose(network.forward(np.ascontiguousarray(x[..., 4:5])), z[:, 4:5], rtol=1e-12)


# --- Copies -------------------------------------------------------------------------------------


def trained_step(network, x, labels):
    loss = SoftmaxCrossEntropy(3)
    value = loss.forward(network.forward(x), labels)
    network.backward(loss.backward())
    network.parameters -= 0.1 * network.gradients
    return value


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "rebuilt": Network.rebuilt,
}


@plain_and_fused
@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "after a step"])
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_learns_the_same_and_by_itself(make, fused, ran):
    network = small(fused)
    x, labels = batch((2, 10, 10), 6, 3)
    if ran:
        trained_step(network, x, labels)
    other = make(network)
    assert type(other.executed[0]) is type(network.executed[0])
    assert_array_equal(other.parameters, network.parameters)
    before = network.parameters.copy()
    course = [trained_step(other, x, labels) for _ in range(3)]
    assert_array_equal(network.parameters, before)
    assert course == [trained_step(network, x, labels) for _ in range(3)]
    assert course[-1] < course[0]
    assert_array_equal(other.parameters, network.parameters)


def test_buffers_are_not_pickled():
    network = small(fused=True)
    fresh = len(pickle.dumps(network))
    network.forward(batch((2, 10, 10), 500, 3)[0])
    assert len(pickle.dumps(network)) < fresh + 2000


def test_a_copy_keeps_layers_that_refer_to_each_other():
    pooling = MaxPooling("S", 2)
    network = Network([pooling, MaxUnpooling("U", pooling)], (2, 4, 4), np.float64)
    x, _ = batch((2, 4, 4), 3, 3)
    expected = network.forward(x).copy()
    other = copy.deepcopy(network)
    assert other.executed[1].pooling is other.executed[0]
    assert other.executed[0] is not pooling
    assert_array_equal(other.forward(x), expected)


@plain_and_fused
def test_rebuilt_in_another_precision_and_form(fused):
    network = small(fused)
    x, _ = batch((2, 10, 10), 6, 3)
    single = network.rebuilt(dtype=np.float32, fused=not fused)
    assert single.dtype == single.parameters.dtype == np.float32
    assert single.fused is not fused
    assert [layer.name for layer in single.layers] == [layer.name for layer in network.layers]
    assert_allclose(single.forward(x.astype(np.float32)), network.forward(x), rtol=1e-4, atol=1e-5)


def test_the_plain_layers_of_a_list_with_fused_ones():
    network = Network(fuse(small_layers()), (2, 10, 10))
    assert [layer.name for layer in network.layers] == [layer.name for layer in small_layers()]
    assert network.output_shapes[1:3] == [(3, 8, 8), (3, 4, 4)]
    plain = network.rebuilt(fused=False)
    assert plain.executed == plain.layers


@plain_and_fused
def test_repr_is_the_summary(fused):
    lines = repr(small(fused)).splitlines()
    assert [line.split()[0] for line in lines] == [
        *("layer", "C1", "S2", "C3", "S4", "C5", "F6", "total")
    ]
    assert "3×8×8" in lines[1]


def test_repr_leaves_the_parameters_where_they_are():
    network = small(fused=True)
    repr(network)
    network.parameters.fill(7)
    assert all((p.value == 7).all() for p in network.parameter_list)


# --- How each parameter is trained --------------------------------------------------------------


def test_multipliers_and_initial_values():
    layers = [
        Convolution("C", 2, 3, lr_mult=(1, 2), decay_mult=(0.5, 1), initializer="lecun1998"),
        Linear("F", 3),
        Linear("G", 2, decay_mult=0),
    ]
    network = Network(layers, (1, 5, 5), np.float64)
    sizes = [p.size for p in network.parameter_list]
    assert_array_equal(network.lr_multipliers, np.repeat([1, 2, 1, 1, 1, 1], sizes))
    assert_array_equal(network.decays, np.repeat([0.5, 1, 1, 0, 0, 0], sizes))
    network.initialize(np.random.default_rng(0))
    weight, *_ = network.parameter_list
    assert 0 < np.abs(weight.value).max() <= 2.4 / 9
    biases = [p.value for p in network.parameter_list[1::2]]
    assert not any(bias.any() for bias in biases)


def test_without_multipliers_nothing_is_multiplied():
    network = small()
    assert network.lr_multipliers is None
    assert network.decays.dtype == np.bool_


@pytest.mark.parametrize("options", [{"lr_mult": -1}, {"decay_mult": (1, 2, 3)}, {"lr_mult": "x"}])
def test_multipliers_that_are_none(options):
    [option] = options
    with pytest.raises(ConfigError, match=f"^layer F: {option}: must be one or two numbers of 0"):
        Linear("F", 3, **options)
    with pytest.raises(ConfigError, match=r"^layer F: initializer: must be lecun, .*, is 'gloro'"):
        Linear("F", 3, initializer="gloro")


@pytest.mark.parametrize("F", [0, -1, 2.5, True, "3"])
def test_numbers_of_outputs_that_are_none(F):
    with pytest.raises(ConfigError, match=r"^layer L: units: must be an integer of 1 or more"):
        Linear("L", F)
    with pytest.raises(ConfigError, match=r"^layer L: filters: must be an integer of 1 or more"):
        Convolution("L", F, 3)


# --- Training and evaluation mode ---------------------------------------------------------------


def test_every_layer_has_the_mode_of_the_network():
    network = small(fused=True)
    assert all(layer.training for layer in network.executed)
    with network.evaluating():
        assert not network.training
        assert not any(layer.training for layer in network.executed)
        with network.evaluating():
            pass
        assert not network.training
    assert all(layer.training for layer in network.executed)
    with pytest.raises(ZeroDivisionError), network.evaluating():
        raise ZeroDivisionError
    assert network.training


# --- Predicting and learning --------------------------------------------------------------------


@pytest.mark.parametrize("N", [0, 1, 5, 7])
def test_predict(N):
    network = small()
    images = np.random.default_rng(0).standard_normal((N, 2, 10, 10))
    probabilities = network.predict(images, batch=3)
    assert probabilities.shape == (N, 3)
    if N:
        z = network.forward(np.ascontiguousarray(images.transpose(1, 2, 3, 0)))
        assert_allclose(probabilities, softmax(z, axis=0).T, rtol=1e-12)


@plain_and_fused
def test_two_hundred_random_images_are_memorised(fused):
    """Noise has nothing to generalise from: the network has to memorise it."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((200, 1, 32, 32)).astype(np.float32)
    labels = rng.integers(0, 10, 200).astype(np.uint8)
    network, loss = lenet5(fused=fused), SoftmaxCrossEntropy(10)
    network.initialize(np.random.default_rng(1))
    velocity = np.zeros_like(network.parameters)
    course = []
    for _ in range(25):
        for start in range(0, 200, 40):
            part = slice(start, start + 40)
            x = np.ascontiguousarray(images[part].transpose(1, 2, 3, 0))
            course.append(loss.forward(network.forward(x), labels[part]))
            network.backward(loss.backward())
            velocity *= 0.9
            velocity -= 0.01 * network.gradients
            network.parameters += velocity
    assert np.mean(course[:5]) > 2
    assert np.mean(course[-5:]) < 0.05
    assert (network.predict(images).argmax(axis=1) == labels).all()


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer C5: a window of 2 does not fit 1 pixels"):
        Network(small_layers(), (2, 6, 6))
    with pytest.raises(ConfigError, match=r"^layer C: takes images .* given the shape \(3,\)"):
        Network([Linear("F", 3), Convolution("C", 2, 3)], (2, 6, 6))


def test_two_layers_or_parameters_of_one_name_are_refused():
    with pytest.raises(
        ConfigError, match=r"^layer F: 2 layers have this name; layer names must be unique"
    ):
        Network([Linear("F", 3), Linear("G", 2), Linear("F", 3)], (2, 6, 6))
    layer = Linear("F", 3)
    with pytest.raises(ConfigError, match=r"^layer F: 2 layers"):
        Network([layer, layer], (3,))

    class Renamed(Linear):
        def build(self, shape):
            shape = super().build(shape)
            self.weight.name = "F.weight"
            return shape

    with pytest.raises(ConfigError, match=r"^parameter F\.weight: 2 parameters have this name"):
        Network([Linear("F", 3), Renamed("G", 2)], (2, 6, 6))


def test_calls_in_the_wrong_order():
    network = small()
    with pytest.raises(OrderError, match=r"^network: backward was called before forward; "):
        network.backward(np.zeros((3, 2)))
    layer = Linear("F", 3)
    for problem in ("D", "x"):
        with pytest.raises(OrderError, match=rf"^layer F: has no '{problem}', or not yet; call "):
            layer.forward(np.zeros((4, 2))) if problem == "D" else layer.backward(np.zeros((3, 2)))
        layer.build((4,))
        layer.allocate(2, np.float64)


def test_an_unknown_initializer():
    message = r"^initializer: must be lecun, .* or he, is 'glorott'; did you mean glorot\?$"
    with pytest.raises(ConfigError, match=message):
        small().initialize(np.random.default_rng(0), "glorott")


def test_the_state_dict_is_the_network():
    layers = [Convolution("C", 3, 3), BatchNormalization("B"), Linear("F", 2)]
    network = Network(layers, (2, 6, 6))
    network.initialize(np.random.default_rng(0))
    other = network.rebuilt()
    other.parameters[:] = 0
    own = network.state_dict()
    assert list(own)[:3] == ["C.weight", "C.bias", "B.weight"]
    assert own["C.weight"] is network.parameter_list[0].value
    assert "B.mean" in own
    own["B.mean"][:] = 7
    other.load_state_dict(own)
    assert_array_equal(other.parameters, network.parameters)
    assert (other.state_dict()["B.mean"] == 7).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"F.bias": None}, "^F.bias: is missing"),
        ({"G.bias": np.zeros(2)}, "^G.bias: is of no layer"),
        ({"F.bias": np.zeros(3)}, r"^F.bias: has the shape \(3,\), the network's is \(2,\)"),
    ],
)
def test_another_state_dict_is_refused_whole(change, message):
    network = Network([Linear("F", 2)], (3,))
    arrays = {"F.weight": np.ones((2, 3)), "F.bias": np.zeros(2)} | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ConfigError, match=message):
        network.load_state_dict(arrays)
    assert not network.parameters.any()
