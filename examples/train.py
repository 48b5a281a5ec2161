"""Train LeNet-5 with the Python API on built-in digits, and evaluate it.

python examples/train.py
"""

import numpy as np

from lenet import SoftmaxCrossEntropy, lenet5, make_optimizer, prepare, train_step
from lenet.data.strokes import draw
from lenet.optim.schedules import cosine


def main(count=20_000, epochs=4, batch=64, target=0.90):
    images, labels = draw(count, seed=0)
    rng = np.random.default_rng(0)
    network = lenet5()
    network.initialize(rng)
    loss = SoftmaxCrossEntropy(classes=10)
    optimizer = make_optimizer(
        "nesterov", network.parameters.size, weight_decay=5e-4, decays=network.decays
    )
    steps = count // batch
    rate = cosine(0.05, steps=epochs * steps)

    for epoch in range(epochs):
        order = rng.permutation(count)[: steps * batch].reshape(steps, batch)
        total = 0.0
        for t, chosen in enumerate(order, start=epoch * steps + 1):
            x = prepare(images[chosen])  # uint8 (N,28,28) to float32 (N,1,32,32)
            total += train_step(network, loss, optimizer, x, labels[chosen], rate(t - 1), t)
        print(f"epoch {epoch + 1}  loss {total / steps:.4f}")

    images, labels = draw(5_000, seed=0, stream=1)  # different digits
    accuracy = np.mean(network.predict(prepare(images)).argmax(axis=1) == labels)
    print(f"{accuracy:.1%} of {len(labels):,} other digits are correct")
    assert accuracy > target, f"the target is {target:.0%}"


if __name__ == "__main__":
    main()
