"""The Lava processes that lava-nc does not have, and faster models of ones it has.

Keep this directory free of other modules: the Lava compiler executes every Python file that
lies beside the module of a custom process (lava-nc 0.10, `ProcGroupDiGraphs._find_proc_models`).
Files are memory-mapped .npy, because reading variables back through Lava is slow (about 30,000
elements per second). Step numbers are Lava's `time_step`, which starts at 1.
"""

# mypy: ignore-errors
import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.lif.models import AbstractPyLifModelFixed
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc


class ImageSource(AbstractProcess):
    """Send sample k's values, unchanged, at each of the steps start + k T ... start + (k+1) T - 1.

    `path` holds (samples, *shape) integers: currents, or codes as graded spikes. Outside those
    steps the values are zero.
    """

    def __init__(self, *, name, shape, path, steps, start):
        super().__init__(name=name, shape=shape, path=path, steps=steps, start=start)
        self.s_out = OutPort(shape=shape)


@implements(proc=ImageSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyImageSource(PyLoihiProcessModel):
    """Reads the file."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self._values = np.load(proc_params["path"], mmap_mode="r")
        self._silence = np.zeros(proc_params["shape"], dtype=np.int32)

    def run_spk(self):
        sample = (self.time_step - self.proc_params["start"]) // self.proc_params["steps"]
        inside = 0 <= sample < len(self._values)
        self.s_out.send(np.array(self._values[sample]) if inside else self._silence)


class InTime(AbstractProcess):
    """Pass on spikes, but none of the last `late` steps of a sample.

    Synapses with a delay of `late` steps would bring those to the next sample. The spikes of
    sample k come at the steps start + k T ... start + (k+1) T - 1; what comes before is treated as
    if there had been samples before. Delay lines of a chip have nothing like it.
    """

    def __init__(self, *, name, shape, steps, late, start):
        super().__init__(name=name, shape=shape, steps=steps, late=late, start=start)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=InTime, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyInTime(PyLoihiProcessModel):
    """Counts the steps of a sample."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self):
        spikes = self.s_in.recv()
        t = (self.time_step - self.proc_params["start"]) % self.proc_params["steps"]
        in_time = t < self.proc_params["steps"] - self.proc_params["late"]
        self.s_out.send(spikes if in_time else np.zeros_like(spikes))


class Recorder(AbstractProcess):
    """Write the spikes of every sample, eight to a byte, into an existing .npy file.

    The file is (samples, T, ceil(neurons / 8)) bytes, first neuron in the highest bit. Sample k
    is what arrives at the steps start + k T ... start + (k+1) T - 1.
    """

    def __init__(self, *, name, shape, path, steps, start):
        super().__init__(name=name, shape=shape, path=path, steps=steps, start=start)
        self.s_in = InPort(shape=shape)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorder(PyLoihiProcessModel):
    """Writes the file."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self._raster = np.load(proc_params["path"], mmap_mode="r+")

    def run_spk(self):
        spikes = self.s_in.recv()
        sample, t = divmod(self.time_step - self.proc_params["start"], self.proc_params["steps"])
        if 0 <= sample < len(self._raster):
            self._raster[sample, t] = np.packbits(spikes != 0)


class Readout(AbstractProcess):
    """Add up current + bias over the T steps of every sample, into an existing .npy file.

    The file is (samples, neurons) int64. Sample k is what arrives at the steps
    start + k T ... start + (k+1) T - 1.
    """

    def __init__(self, *, name, shape, path, bias, steps, start):
        super().__init__(name=name, shape=shape, path=path, bias=bias, steps=steps, start=start)
        self.a_in = InPort(shape=shape)


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyReadout(PyLoihiProcessModel):
    """Writes the file."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self._logits = np.load(proc_params["path"], mmap_mode="r+")
        self._bias = np.asarray(proc_params["bias"], dtype=np.int64)

    def run_spk(self):
        current = self.a_in.recv()
        sample = (self.time_step - self.proc_params["start"]) // self.proc_params["steps"]
        if 0 <= sample < len(self._logits):
            self._logits[sample] += current + self._bias


class SoftLIF(LIFReset):
    """LIFReset that subtracts the threshold from a membrane that spiked, and keeps the rest.

    It spikes where v >= threshold. `threshold` is in units of the membrane, which are 64 times
    finer than those of LIF's `vth`. Loihi's own LIF cannot do this: it runs on the CPU only.
    """

    def __init__(self, *, threshold, **parameters):
        super().__init__(vth=threshold, **parameters)


@implements(proc=SoftLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySoftLIF(AbstractPyLifModelFixed):
    """Lava's fixed-point dynamics with another comparison and another reset."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: int = LavaPyType(int, np.int32, precision=24)

    def scale_threshold(self):
        self.isthrscaled = True  # it is in units of the membrane already

    def spiking_activation(self):
        return self.v >= self.vth

    def reset_voltage(self, spike_vector):
        self.v[:] = np.where(spike_vector, self.v - self.vth, self.v)

    def run_spk(self):
        interval = self.proc_params["reset_interval"]
        if self.time_step % interval == self.proc_params["reset_offset"] % interval:
            self.u[:] = 0
            self.v[:] = 0
        super().run_spk()


class PyConvProduct(PyConvModelFixed):
    """The integers of lava-nc's PyConvModelFixed, as one matrix product for each group.

    lava-nc runs one scipy.convolve2d for each pair of channels. Sums are exact in float64.
    """

    # lava-nc's int8 ends at 127
    groups: np.ndarray = LavaPyType(np.ndarray, np.int32)
    stride: np.ndarray = LavaPyType(np.ndarray, np.int32)
    padding: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self):
        self.a_out.send(self.a_buf)
        spikes = self.s_in.recv()
        if self.num_message_bits.item() == 0:
            spikes = spikes != 0
        self.a_buf = self.clamp_precision(self._convolve(spikes).astype(np.int32))

    def _convolve(self, spikes):
        groups = int(self.groups[0])
        (pad_x, pad_y), (step_x, step_y) = self.padding.tolist(), self.stride.tolist()
        (gap_x, gap_y), (out, wide, high, depth) = self.dilation.tolist(), self.weight.shape
        padded = np.pad(spikes, ((pad_x, pad_x), (pad_y, pad_y), (0, 0)))
        reach = (gap_x * (wide - 1) + 1, gap_y * (high - 1) + 1)
        view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(0, 1))
        view = view[::step_x, ::step_y, :, ::gap_x, ::gap_y]  # (W, H, C, kw, kh)
        result = np.empty((*view.shape[:2], out))
        for g, matrix in enumerate(self._matrices(groups)):
            taps = view[:, :, g * depth : (g + 1) * depth].reshape(-1, depth * wide * high)
            share = slice(g * out // groups, (g + 1) * out // groups)
            result[:, :, share] = (taps.astype(np.float64) @ matrix).reshape(*view.shape[:2], -1)
        return result

    def _matrices(self, groups):
        """Return the weights of each group as (taps, out), made once."""
        if not hasattr(self, "_made"):
            # Conv is a true convolution: its kernel runs backwards
            kernel = self.weight[:, ::-1, ::-1].transpose(0, 3, 1, 2).astype(np.float64)
            self._made = [k.reshape(len(k), -1).T.copy() for k in np.split(kernel, groups)]
        return self._made


class PyDelaySparseOnce(PyDelaySparseModelBitAcc):
    """lava-nc's model, which stacks its weights by delay again at every step; here, once."""

    def calc_act(self, s_in):
        delays = self.a_buff.shape[-1]
        if not hasattr(self, "_stacked"):
            self._stacked = self.get_delay_wgts_mat(self.weights, self.delays, delays - 1).tocsr()
        return self._stacked.dot(s_in).reshape(delays, self.weights.shape[0]).T


class PySparseProduct(PySparseModelBitAcc):
    """lava-nc's model, which picks columns of its matrix at every step; here, a product."""

    def run_spk(self):
        if not self.weights_set:
            super().run_spk()  # it brings the weights into their format
            return
        self.a_out.send(self.a_buff)
        spikes = self.s_in.recv()
        if self.num_message_bits.item() == 0:
            spikes = spikes != 0
        accumulated = self.weights.dot(spikes)
        if self.weight_exp > 0:
            self.a_buff = np.left_shift(accumulated, self.weight_exp)
        else:
            self.a_buff = np.right_shift(accumulated, -self.weight_exp)
