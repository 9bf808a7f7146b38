"""The training images that conversion looks at: in a drawn order, varied as in training."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from snnc.learn.augment import augment, channel_means
from snnc.learn.stage import Context, TrainingData, batches


def training_images(
    data: TrainingData, size: int, context: Context, number: int
) -> Iterator[Tensor]:
    """Yield the training images of pass `number` once, `size` at a time; the last may be fewer.

    Order and variation are draws of the context, another for each number.
    """
    means = channel_means(data.train.pixels, data.train.white) if data.augment else None
    order = context.order(len(data.train), "images", number)
    for position, batch in enumerate(batches(data.train, size, order)):
        if means is None:
            yield batch.images
        else:
            stream = context.generator("augment", number, position)
            yield augment(batch.images, data.augment, means, stream)
