"""The specification against a published trace of one neuron on a Loihi 2 chip.

Source: Pedersen et al., "Neuromorphic intermediate representation", 2024, repository
neuromorphs/NIR, `paper/01_lif/lif_lava_loihi_fixed.csv`: Dense weight 10, du 4095, dv 163,
vth 25, bias 0, 1000 steps. This is the only hardware that snnc was ever compared with.
"""

from snnc.ir.graph import Reset
from snnc.semantics.neuron import step

INPUT_STEPS = (
    *(60, 220, 270, 310, 320, 350, 370, 400, 410, 430, 440, 450, 460, 470, 480, 490, 500),
    *(510, 520, 530, 670, 680, 690, 700, 710, 720, 730, 740, 750, 760, 770, 780, 840, 850),
)
SPIKE_STEPS = [461, 511, 711, 761]
DECAY_OF_ONE_INPUT = [  # the membrane from step 61 on, until nothing is left
    *(640, 614, 589, 565, 542, 520, 499, 479, 459, 440, 422, 405, 388, 372, 357, 342, 328),
    *(314, 301, 289, 277, 265, 254, 243, 233, 223, 214, 205, 196, 188, 180, 172, 165, 158),
    *(151, 144, 138, 132, 126, 120, 115, 110, 105, 100, 96, 92, 88, 84, 80, 76, 72, 69, 66),
    *(63, 60, 57, 54, 51, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 23, 22, 21),
    *(20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
]
MEMBRANE_SUM = 370_259  # of the published trace, over all 1000 steps
AFTER_SPIKE = 128  # what the chip's probe shows at the four spikes, where the model says 0


def test_a_neuron_of_the_specification_behaves_as_the_published_chip_trace():
    v, membrane, spikes = 0, [], []
    for t in range(1000):
        current = 10 if t - 1 in INPUT_STEPS else 0  # the synapse takes one step
        _, v, spike = step(
            0,
            v,
            current,
            current_decay=4096,
            bias=0,
            threshold=25 * 64 + 1,
            decay=163,
            reset=Reset.ZERO,
        )
        membrane.append(v)
        spikes.append(spike)
    assert [t for t, spike in enumerate(spikes) if spike] == SPIKE_STEPS
    assert membrane[61 : 61 + len(DECAY_OF_ONE_INPUT)] == DECAY_OF_ONE_INPUT
    assert sum(membrane) + AFTER_SPIKE * len(SPIKE_STEPS) == MEMBRANE_SUM
