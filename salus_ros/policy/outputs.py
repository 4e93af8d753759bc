"""What every output of a policy carries beside its plan: its number, whose it is, and how unsure it is."""

from __future__ import annotations

from salus_ros.policy import uncertainty
from salus_ros.types import NOT_AVAILABLE, ActionChunk, Floats32, Observation, PolicyOutput

_Moment = tuple[int, ActionChunk | None]


class Outputs:
    """Numbers a policy's outputs from 0 on, and keeps the chunk before for what two plans differ by."""

    def __init__(self, name: str, hash: str) -> None:
        """``name`` and ``hash`` of the policy, see ``Policy``."""
        self._name, self._hash = name, hash
        self._sequence = 0
        self._before: ActionChunk | None = None

    def next(
        self,
        observation: Observation,
        chunk: ActionChunk,
        samples: Floats32,
        *,
        velocity_field_disagreement: float = NOT_AVAILABLE,
        latent: Floats32 | None = None,
    ) -> PolicyOutput:
        """The output that plans ``chunk`` from ``samples`` (K, S, T, D), see ``uncertainty.of_samples``."""
        output = PolicyOutput(
            sequence=self._sequence,
            policy_name=self._name,
            policy_hash=self._hash,
            instruction=observation.instruction,
            chunk=chunk,
            uncertainty=uncertainty.of_samples(
                samples,
                velocity_field_disagreement=velocity_field_disagreement,
                overlap=uncertainty.overlap_divergence(self._before, chunk),
                latent=latent,
            ),
            samples=samples,
            inference_time_s=NOT_AVAILABLE,
        )
        self._sequence += 1
        self._before = chunk
        return output

    def forget(self) -> None:
        """The next output has no chunk before it; the numbers go on."""
        self._before = None

    def save(self) -> _Moment:
        """The moment, for ``restore``."""
        return self._sequence, self._before

    def restore(self, moment: _Moment) -> None:
        """Go back to a saved moment; the same one may be restored many times."""
        self._sequence, self._before = moment
