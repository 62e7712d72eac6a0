"""What backends of training steps have in common: one run after the other, each on its own batch, every step with its loss.

A request's token ids are its batch, sequence after sequence, each with one token more than is trained: the tokens but the last are
the input, the tokens but the first the targets. So every position of every sequence is trained, nothing is padded, and a step is
worth batch x sequence tokens in every engine. All steps of a request train on that one batch, so that its loss has to fall.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import Any

from rigbench_backends import base

LOSS_DIGITS = 9
"""More than a 32-bit float has."""
COUNTED = "4 operations (6 where all weights are trained) a weight of its matrices and trained token"


class TrainingSession(base.Session):
    """A loaded model that can be trained. What an engine does is `_arrange`, `_batch` and `_train`."""

    _matrix_weights: int | None = None
    """Weights that each token is multiplied with; None where that is not known."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[base.Request, Any]] = deque()
        self._running: tuple[base.Request, Any] | None = None
        self._losses: list[float] = []
        self._work: Any = None
        self._trained_parameters = 0

    @abstractmethod
    def _arrange(self, work: Any) -> int:
        """Make the weights as they were loaded ready for a training, its adapters and its optimizer new; how many are trained."""

    @abstractmethod
    def _batch(self, sequences: list[list[int]]) -> Any:
        """The sequences where the engine computes."""

    @abstractmethod
    def _train(self, batch: Any) -> float:
        """One optimizer step, over when this returns, and the loss that it had before."""

    def encode(self, text: str) -> list[int]:
        raise base.EngineError("options", f"{self.info.engine} trains on token ids")

    def prepare(self, users: int, context_tokens: int) -> None:
        raise base.EngineError("options", f"{self.info.engine} here runs workloads of kind train alone")

    def prepare_work(self, work: Any, users: int) -> None:
        self._waiting.clear()
        self._running = None
        self._work = work
        self._trained_parameters = self._arrange(work)

    def submit(self, request: base.Request) -> None:
        length = len(request.prompt) // self._work.batch
        sequences = [list(request.prompt[at : at + length]) for at in range(0, len(request.prompt), length)]
        self._waiting.append((request, self._batch(sequences)))

    def step(self) -> base.Step:
        if self._running is None:
            if not self._waiting:
                return base.IDLE
            self._running = self._waiting.popleft()
            self._losses = []
        request, batch = self._running
        loss = self._train(batch)
        now = self.clock()
        self._losses.append(float(f"{loss:.{LOSS_DIGITS}g}"))
        units = self._work.step_units
        ended = len(self._losses) * units >= request.output_tokens
        if not ended:
            return base.Step(now, [base.Event(request.id, units)])
        self._running = None
        return base.Step(now, [base.Event(request.id, units, True, loss=tuple(self._losses))], True)

    def work(self) -> base.StepWork | None:
        weights, work = self._matrix_weights, self._work
        if weights is None or work is None:
            return None
        flops = (6 if work.method == "full" else 4) * weights * work.step_units
        read = round(2 * weights * (0.5 if work.method == "qlora" else 2))
        return base.StepWork(flops, read, trained_parameters=self._trained_parameters, source=COUNTED)
