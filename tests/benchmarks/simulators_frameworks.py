"""SpikingJelly, snnTorch and norse: the networks of the comparison in their modules.

SpikingJelly's neurons spike where v >= threshold, as ours. Those of snnTorch and norse ask for
v > threshold, so they get threshold - 1/2, which is the same question for integers.

    SpikingJelly  IFNode in multi-step mode: the steps are folded into the batch of every layer
    snnTorch      Leaky with beta 1, reset to zero, surrogates off, in a loop over time
    norse         IAFCell in a SequentialState in a loop over time, or Lift and IAF

The first layer runs once for all steps, as the packages' own examples of static images do.

torchvision is not needed: SpikingJelly 2.0.0 and norse 1.1.0 name it as a requirement and
import it only in modules that are not used here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from simulators_networks import Build, Codes, Counts, Kept, Network, Run, Stage, in_chunks


class _Stepped(ABC):
    """A network of torch modules that another package runs, and hooks that count its spikes."""

    def __init__(self, network: Network, *, channels_last: bool) -> None:
        import torch

        self.steps = network.setting.steps
        self.dims = [3 if stage.weight.ndim == 4 else 1 for stage in network.stages]
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.counted: list[Counts] | None = None
        self.first = linear(network.stages[0]).requires_grad_(False).to(memory_format=self.layout)
        self.modules = self.build(network)
        for module in self.modules.modules():
            module.requires_grad_(False)
        self.modules.eval().to(memory_format=self.layout)
        for number, module in enumerate(self.neurons()):
            module.register_forward_hook(self._count(number))

    @abstractmethod
    def build(self, network: Network):
        """Return all modules but the first weights, in one module."""

    @abstractmethod
    def neurons(self) -> Iterator:
        """Yield the modules that spike, in order."""

    @abstractmethod
    def forward(self, current):
        """Return the logits of what the image adds to the first neurons (samples, *shape)."""

    def run(self, codes: Codes, kept: Kept | None) -> Counts:
        """Return the logits; add the counted spikes to `kept`."""
        import torch

        with torch.inference_mode():
            x = torch.tensor(codes, dtype=torch.float32).contiguous(memory_format=self.layout)
            if kept is not None:
                self.counted = []
            logits = self.forward(self.first(x)).double().long().numpy()
        if kept is not None:
            kept.append(self.counted or [])
            self.counted = None
        return logits

    def _count(self, number: int):
        def hook(_module, _inputs, output) -> None:
            if self.counted is None:
                return
            spikes = output[0] if isinstance(output, tuple) else output
            if len(spikes) == self.steps and spikes.dim() == self.dims[number] + 2:
                spikes = spikes.sum(0)  # (steps, samples, *shape)
            found = spikes.flatten(1).long().numpy()
            if number < len(self.counted):
                self.counted[number] = self.counted[number] + found
            else:
                self.counted.append(found)

        return hook


def linear(stage: Stage):
    """Return the weights of a stage as a torch module."""
    import torch
    from torch import nn

    weight = torch.tensor(stage.weight, dtype=torch.float32)
    out, into = weight.shape[:2]
    module = nn.Conv2d(into, out, 3, padding=1) if weight.dim() == 4 else nn.Linear(into, out)
    module.weight.data, module.bias.data = weight, torch.tensor(stage.bias, dtype=torch.float32)
    return nn.Sequential(module) if weight.dim() == 4 else nn.Sequential(nn.Flatten(), module)


def spikingjelly(chunk: int, *, channels_last: bool) -> Build:
    def build(network: Network) -> Run:
        from spikingjelly.activation_based import functional, layer, neuron
        from torch import nn

        class SpikingJelly(_Stepped):
            def build(self, network):
                parts: list[nn.Module] = []
                for number, stage in enumerate(network.stages):
                    if number:
                        parts.append(layer.SeqToANNContainer(*_pooled(stage), linear(stage)))
                    if stage.threshold is not None:
                        parts.append(neuron.IFNode(v_threshold=float(stage.threshold)))
                net = nn.Sequential(*parts)
                functional.set_step_mode(net, "m")
                return net

            def neurons(self):
                return (m for m in self.modules if isinstance(m, neuron.IFNode))

            def forward(self, current):
                functional.reset_net(self.modules)
                sequence = current.unsqueeze(0).expand(self.steps, *current.shape)
                return self.modules(sequence).double().sum(0)

        return in_chunks(SpikingJelly(network, channels_last=channels_last).run, chunk)

    return build


def _pooled(stage: Stage) -> list:
    """Return the module that sums 2x2 spikes, where the stage has one before it."""
    from torch import nn

    return [nn.AvgPool2d(2, divisor_override=1)] if stage.pool else []


def snntorch(chunk: int, *, channels_last: bool) -> Build:
    def build(network: Network) -> Run:
        import snntorch as package
        from torch import nn

        class SnnTorch(_Stepped):
            def build(self, network):
                parts: list[nn.Module] = []
                for number, stage in enumerate(network.stages):
                    if number:
                        parts += [*_pooled(stage), linear(stage)]
                    if stage.threshold is not None:
                        cell = package.Leaky(
                            beta=1.0,
                            threshold=stage.threshold - 0.5,
                            reset_mechanism="zero",
                            init_hidden=True,
                            surrogate_disable=True,
                        )
                        parts.append(cell)
                return nn.Sequential(*parts)

            def neurons(self):
                return (m for m in self.modules if isinstance(m, package.Leaky))

            def forward(self, current):
                for cell in self.neurons():
                    cell.reset_mem()
                return sum(self.modules(current).double() for _ in range(self.steps))

        return in_chunks(SnnTorch(network, channels_last=channels_last).run, chunk)

    return build


def norse(chunk: int, *, lifted: bool, channels_last: bool) -> Build:
    def build(network: Network) -> Run:
        import norse.torch as package
        import torch
        from torch import nn

        cell = package.IAF if lifted else package.IAFCell
        wrap = package.Lift if lifted else (lambda module: module)

        class Norse(_Stepped):
            def build(self, network):
                parts: list[nn.Module] = []
                for number, stage in enumerate(network.stages):
                    if number:
                        parts.append(wrap(nn.Sequential(*_pooled(stage), linear(stage))))
                    if stage.threshold is not None:
                        threshold = torch.tensor(stage.threshold - 0.5)
                        parameters = package.IAFParameters(
                            v_th=threshold, v_reset=torch.tensor(0.0)
                        )
                        parts.append(cell(parameters))
                return package.SequentialState(*parts)

            def neurons(self):
                return (m for m in self.modules.modules() if isinstance(m, cell))

            def forward(self, current):
                if lifted:
                    sequence = current.unsqueeze(0).expand(self.steps, *current.shape)
                    return self.modules(sequence)[0].double().sum(0)
                state, total = None, torch.zeros(())
                for _ in range(self.steps):
                    out, state = self.modules(current, state)
                    total = total + out.double()
                return total

        return in_chunks(Norse(network, channels_last=channels_last).run, chunk)

    return build
