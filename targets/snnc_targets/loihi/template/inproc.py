"""Run a Lava network in this one process: Lava's own models, without Lava's runtime.

Lava's compiler chooses the process models and builds them as for its own runtime. Here their
ports are joined by queues, and every step calls them in topological order:

    a step     run_spk of every process; then run_post_mgmt of those whose post_guard says so,
               with what they read from and write to variables of others
    a channel  copies what is sent and casts it to the sender's type, as Lava's shared memory does

So the integers are the same, a failing model raises where it stands, and nothing runs that could
be left behind. Feed-forward networks of Python models only; the rest is refused by name.
"""

# mypy: ignore-errors
from collections import deque

import numpy as np
from lava.magma.compiler.builders.channel_builder import ChannelBuilderMp
from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import create_port_id


class Unable(Exception):
    """The network needs Lava's own runtime."""


class Failed(Exception):
    """A process model raised; the cause is its own error."""


class Sender(CspSendPort):
    """The sending end of a queue. Lava's builder asks for the class, its constructor for names."""

    def __init__(self, port, queue):
        self._name, self._shape, self._dtype = port.name, tuple(port.shape), np.dtype(port.d_type)
        self.queue = queue

    def send(self, data):
        if data.shape != self._shape:
            raise ValueError(f"port {self._name} sends {data.shape}, its shape is {self._shape}")
        self.queue.append(np.array(data, dtype=self._dtype))


class Receiver(CspRecvPort):
    """The receiving end. A variable of another process answers when it is read, through `ask`."""

    def __init__(self, port, queue):
        self._name, self._shape, self._dtype = port.name, tuple(port.shape), np.dtype(port.d_type)
        self.queue, self.ask = queue, None

    def probe(self):
        return bool(self.queue)

    def recv(self):
        while not self.queue and self.ask is not None:
            self.ask()
        return self.queue.popleft()


class InProcess:
    """A compiled network of which `process` is one process, ready to run."""

    def __init__(self, process, settings):
        executable = process.compile(settings)
        builders = executable.proc_builders
        for member, builder in builders.items():
            _check(member, builder)
        before = {member: set() for member in builders}  # whose spikes each one needs first
        ends = [_join(channel, builders, before) for channel in executable.channel_builders]
        order = _in_order(before)
        self._built = {member: builders[member].build() for member in order}
        self._models = [(member.name, model) for member, model in self._built.items()]
        self._variables = _answering(ends, self._built.values())
        self._step = 0

    def run(self, steps):
        """Run so many steps more.

        Raises:
            Failed: a model raised, or asked Lava's runtime to stop.
        """
        for _ in range(steps):
            self._step += 1
            for name, model in self._models:
                model.time_step += 1
                self._phase(name, model, model.run_spk)
            late = [(name, model) for name, model in self._models if model.post_guard()]
            for name, model in late:
                self._phase(name, model, model.run_post_mgmt)
            for variable in self._variables:
                while variable._csp_recv_port.probe():
                    variable.service()

    def variable(self, variable):
        """Return the value of a process's `Var`."""
        return getattr(self._built[variable.process], variable.name)

    def _phase(self, name, model, run):
        try:
            run()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise Failed(f"{_called(name, model)} failed at step {self._step}: {what}") from error
        if model._req_pause or model._req_stop:
            raise Failed(f"{_called(name, model)} asked to stop at step {self._step}")


def _check(process, builder):
    """Refuse what needs Lava's runtime."""
    called = f"{process.name} ({type(process).__name__})"
    if not (
        isinstance(builder, PyProcessBuilder)
        and issubclass(builder.proc_model, PyLoihiProcessModel)
    ):
        raise Unable(f"{called} has no Python model with Loihi's phases; run it on Lava's runtime")
    if builder.proc_model.lrn_guard is not PyLoihiProcessModel.lrn_guard:
        raise Unable(f"{called} learns; run it on Lava's runtime")
    for name in builder.py_ports:
        if getattr(getattr(process, name), "external_pipe_flag", False):
            raise Unable(f"{called} talks to a program outside; run it on Lava's runtime")


def _join(channel, builders, before):
    """Join two ports by a queue; note who must run first. Return both ends."""
    if not isinstance(channel, ChannelBuilderMp):
        raise Unable(f"a channel is a {type(channel).__name__}; run it on Lava's runtime")
    queue, source, target = deque(), channel.src_port_initializer, channel.dst_port_initializer
    sender, receiver = Sender(source, queue), Receiver(source, queue)
    receiver._name = target.name
    builders[channel.src_process].set_csp_ports([sender])
    builder = builders[channel.dst_process]
    builder.set_csp_ports([receiver])
    port = create_port_id(channel.src_process.id, source.name)
    builder.add_csp_port_mapping(port, receiver)
    if target.name in builder.py_ports:  # not a variable that is read or written
        before[channel.dst_process].add(channel.src_process)
    return sender, receiver


def _in_order(before):
    """Return the processes so that each comes after all that it hears."""
    order, left = [], dict(before)
    while left:
        ready = [process for process, needed in left.items() if not needed & left.keys()]
        if not ready:
            names = ", ".join(sorted(process.name for process in left))
            raise Unable(f"spikes run in a circle through {names}; run it on Lava's runtime")
        order += ready
        for process in ready:
            del left[process]
    return order


def _answering(ends, models):
    """Return the ports of variables that others read or write; let them answer when read."""
    receivers = {id(sender): receiver for sender, receiver in ends}
    variables = [port for model in models for port in model.var_ports if port.csp_ports]
    for variable in variables:
        receivers[id(variable._csp_send_port)].ask = variable.service
    return variables


def _called(name, model):
    return f"{name} ({type(model).__name__})"
