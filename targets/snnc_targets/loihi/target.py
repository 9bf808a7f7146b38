"""The target `loihi`: Intel's Loihi 2 as lava-nc simulates it, bit for bit.

It emits a self-contained Lava program and runs it out of process. No hardware is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from snnc.energy.count import Encoding
from snnc.energy.lowering import Lowers
from snnc.errors import Issue, unreachable
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.passes.numbers import Numbers
from snnc.semantics.neuron import CURRENT_MAX, V_MAX
from snnc.simulate.trace import Trace
from snnc.targets.api import Choice, Progress, Target, checked_options
from snnc.targets.cores import MapsCores
from snnc.targets.outside import Manner, Outside, RunsOutside
from snnc.targets.setup import Check, NeedsSetup

from snnc_targets.loihi import (
    costs,
    emit,
    engines,
    environment,
    hardware,
    interpreter,
    limits,
    mapping,
    priced,
)
from snnc_targets.loihi.cores.partition import too_many_chips
from snnc_targets.loihi.interpreter import Places
from snnc_targets.loihi.lowering import (
    CONVOLUTIONS,
    IMAGE,
    USUAL,
    USUAL_ON_CHIP,
    Convolutions,
    Image,
    Lowering,
)
from snnc_targets.loihi.mantissas import EXPONENT_MAX


@final
@dataclass(frozen=True, kw_only=True)
class LoihiTarget(Target, NeedsSetup, RunsOutside, MapsCores, Lowers):
    """Runs programs on Lava's fixed-point models, spike for spike as the specification says.

    With `chip`, whatever a chip could not do is an issue, though the simulation could.
    """

    name: str
    summary: str
    chip: bool
    how: Lowering

    @property
    def engines(self) -> Mapping[str, str]:
        """What executes a build."""
        return engines.ENGINES

    @property
    def choices(self) -> Sequence[Choice]:  # type: ignore[override]  # nobody assigns to it
        """How the image enters, and what carries convolutions."""
        usual = USUAL_ON_CHIP if self.chip else USUAL
        possible = {k: v for k, v in IMAGE.items() if not (self.chip and k == Image.HOST.value)}
        return (
            Choice(name="image", values=possible, default=usual.image.value),
            Choice(name="convolutions", values=CONVOLUTIONS, default=usual.convolutions.value),
        )

    @property
    def options(self) -> Mapping[str, str]:
        """What was chosen."""
        return {"image": self.how.image.value, "convolutions": self.how.convolutions.value}

    def configured(self, options: Mapping[str, str]) -> LoihiTarget:
        """Return this target with some choices made."""
        chosen = checked_options(self, options)
        how = Lowering(
            image=Image(chosen["image"]), convolutions=Convolutions(chosen["convolutions"])
        )
        return replace(self, how=how)

    @property
    def numbers(self) -> Numbers:
        """The formats of Loihi's LIF neuron, and what the image has to fit."""
        kernels = self.how.convolutions is Convolutions.CONV  # which store what they multiply
        numbers = Numbers(
            accumulator_max=CURRENT_MAX if self.chip else V_MAX,  # a neuron's, or the host's
            weight_exponent_max=EXPONENT_MAX,
            kernel_exponent_max=0 if kernels else EXPONENT_MAX,
        )
        match self.how.image:
            case Image.HOST:
                return numbers
            case Image.GRADED:
                return replace(numbers, input_bias_max=limits.BIAS_MAX)
            case Image.BIAS:  # the whole current of an image is one mantissa
                return replace(
                    numbers, input_bias_max=limits.BIAS_MAX, image_current_max=limits.BIAS_MAX
                )
            case _:
                unreachable(self.how.image)

    def issues(self, program: Program) -> Sequence[Issue]:
        """Return every limit of Loihi's formats that the program breaks, and of the chip."""
        if not self.chip:
            return limits.issues(program, self.how, delay_max=limits.DELAY_MAX)
        on_cores = mapping.on_cores(program, self.how)
        formats = mapping.formats(program, self.how)
        return (*formats, *hardware.issues(program, self.how), *on_cores.issues)

    def emit(self, program: Program, directory: Path) -> Mapping[str, object]:
        """Write the generated Lava program; report what each layer became."""
        emit.emit(program, directory, self.how)
        choices = {"choices": costs.report(program, self.how)}
        return mapping.write(program, directory, self.how) | choices

    @property
    def image_every_step(self) -> bool:
        """Whether the chip multiplies the image, at every step."""
        return self.how.image is Image.GRADED

    def encodings(self, program: Program) -> Mapping[tuple[str, str], Encoding]:
        """Map (population, bundle) to how it is stored."""
        return priced.encodings(program, self.how)

    def picture(self, program: Program) -> str | None:
        """Draw the cores of a Loihi 2."""
        return mapping.drawn(mapping.on_cores(program, self.how))

    def too_many_chips(self, program: Program, chips: int) -> Sequence[Issue]:
        """Return an issue if the program needs more than so many Loihi 2."""
        return too_many_chips(mapping.on_cores(program, self.how), chips)

    def execute(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        raster: bool,
        progress: Progress | None = None,
    ) -> Trace:
        """Run the generated program; the pipeline delay is removed.

        Raises:
            MissingDependency: no Python 3.10 with lava-nc 0.10.0 was found.
            InvalidSetting: there is no sample, or a code is none that an image can become.
            TargetFailed: the run broke.
        """
        how = engines.BY_DEFAULT
        run = self.execute_outside
        return run(program, directory, codes, manner=how, raster=raster, progress=progress)[0]

    def execute_outside(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        manner: Manner,
        raster: bool,
        progress: Progress | None = None,
    ) -> tuple[Trace, Outside]:
        """Run the generated program as `engines.execute` does."""
        return engines.execute(
            program, directory, codes, manner=manner, raster=raster, progress=progress
        )

    def doctor(self) -> Sequence[Check]:
        """Ask every Python that could run Lava."""
        places = Places.here()
        answers = list(interpreter.answers(places))
        ready = next((answer for answer in answers if not answer.problem), None)
        found = Check(
            name="Lava",
            ok=ready is not None,
            detail=str(ready)
            if ready
            else f"no Python 3.10 with lava-nc {interpreter.LAVA_VERSION}",
            remedy="" if ready else _remedy(places),
        )
        tried = [
            Check(
                name=answer.place,
                ok=not answer.problem,
                detail=str(answer),
                remedy="",  # any one that works is enough
            )
            for answer in answers
        ]
        return [found, *tried]

    def setup(self, progress: Callable[[str], None]) -> str:
        """Make the managed environment, see `environment.setup`."""
        python = environment.setup(Places.here(), progress)
        return f"Lava runs with {python}"


def _remedy(places: Places) -> str:
    if interpreter.VARIABLE in places.environ:
        return (
            f"unset ${interpreter.VARIABLE}, or let it name a Python 3.10 with lava-nc "
            f"{interpreter.LAVA_VERSION}"
        )
    return "snnc lava setup"


TARGET = LoihiTarget(
    name="loihi",
    summary="Intel Loihi 2, simulated by lava-nc 0.10 under Python 3.10: integers, bit for bit",
    chip=False,
    how=USUAL,
)
LOIHI2 = LoihiTarget(
    name="loihi2",
    summary="as loihi, refusing what a Loihi 2 could not do; executed by the same simulation",
    chip=True,
    how=USUAL_ON_CHIP,
)
