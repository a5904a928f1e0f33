"""Train one Keras model in two ranks of Horovod: each has data of its own, and their gradients are averaged.

You learn: `kind=mlfn.Horovod(replicas=...)`, that the weights agree after training, and metrics of rank 0.
It needs Horovod built for TensorFlow: docs/horovod.md says how.
"""

from __future__ import annotations

import mlfn


@mlfn.function(kind=mlfn.Horovod(replicas=2))
@mlfn.handler(outputs=["loss", "spread"])
def train(ctx: mlfn.Context, epochs: int = 5) -> tuple[float, float]:
    import horovod.tensorflow.keras as hvd
    import numpy as np
    import tensorflow as tf

    hvd.init()
    tf.keras.utils.set_random_seed(ctx.rank)  # each begins elsewhere; rank 0's weights are broadcast
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(1)])
    optimizer = hvd.DistributedOptimizer(tf.keras.optimizers.legacy.SGD(0.1))
    model.compile(optimizer=optimizer, loss="mse")
    x = np.random.default_rng(ctx.rank).normal(size=(256, 4)).astype("float32")
    y = x @ np.array([1.0, -2.0, 3.0, 0.5], "float32")
    start = hvd.callbacks.BroadcastGlobalVariablesCallback(0)
    losses = model.fit(x, y, epochs=epochs, batch_size=32, callbacks=[start], verbose=0).history["loss"]
    for epoch, loss in enumerate(losses):
        ctx.log_metric("loss", loss, step=epoch)
    weights = hvd.allgather(tf.constant([np.concatenate([part.ravel() for part in model.get_weights()])]))
    print(f"rank {ctx.rank} ends with {weights[ctx.rank].numpy().round(3)}")
    return losses[-1], float(np.abs(weights[0] - weights[1]).max())


def main() -> None:
    run = train.submit()
    run.result()
    print(run.logs(rank=0), run.logs(rank=1))
    assert run.outputs["spread"] == 0.0, "both ranks have the same weights"
    assert run.metrics["loss"] < 0.01


if __name__ == "__main__":
    main()
