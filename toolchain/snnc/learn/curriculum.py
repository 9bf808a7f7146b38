"""A curriculum on epsilon: training begins with a weaker adversary than it ends with.

Source: a linear warm-up of epsilon over the first epochs, as in Qin et al., NeurIPS 2019
(arXiv 1907.02610; from 0 to 8/255 over 15 epochs) and among the tricks of Pang et al.,
ICLR 2021. Ours starts above 0, since no adversary at all is another objective, and stands
still within an epoch. Cai et al., IJCAI 2018, strengthen the adversary by its steps instead.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from snnc.learn.settings import Count, Settings


class Curriculum(Settings):
    """Epsilon grows from `start` times itself, and is whole after `epochs` epochs."""

    start: Annotated[float, Field(gt=0, le=1)]  # of epsilon, in the first epoch
    epochs: Count  # that train with less than the whole


def factor(curriculum: Curriculum, epoch: int) -> float:
    """Return what epsilon is multiplied with in an epoch, counted from 0.

        min(1, start + (1 - start) epoch / epochs)

    >>> [factor(Curriculum(start=0.5, epochs=2), epoch) for epoch in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """
    if epoch >= curriculum.epochs:
        return 1.0
    return curriculum.start + (1 - curriculum.start) * epoch / curriculum.epochs
