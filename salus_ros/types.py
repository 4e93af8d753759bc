"""The nouns that the parts of SALUS exchange.

Policy, monitor, intervention and simulator never import one another: they meet here.
SI units and REP-103 frames throughout; J is the number of arm joints, T the number of
points of an action chunk. Arrays are numpy arrays that nobody writes to after they were
handed over. ``nan`` means *not available* everywhere; it never stands for zero.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Image = NDArray[np.uint8]

NOT_AVAILABLE: Final = float("nan")

HORIZONS_S: Final = (0.2, 0.3, 0.4, 0.5)
"""How far ahead failures are foreseen, in seconds."""


class FailureType(enum.IntEnum):
    """What can go wrong at a moment in time; the rows of a prediction.

    The time limit is not among them: it is censoring, with one probability per episode.
    """

    COLLISION = 0
    DROP = 1
    MISS = 2


class Mode(enum.IntEnum):
    """What the intervention node does; a higher value takes precedence over a lower one."""

    INACTIVE = 0
    NOMINAL = 1
    SLOW_DOWN = 2
    REPLAN = 3
    ASSIST = 4
    HOLD = 5
    PROTECTIVE_STOP = 6
    EMERGENCY_STOP = 7


class Cause(enum.IntEnum):
    """Why the intervention node is in its mode. The numbers are those of the message."""

    NONE = 0
    STARTUP = 1
    DEACTIVATED = 2
    SHUTDOWN = 3
    FORESEEN_TIMEOUT = 9
    RISK = 10
    FORESEEN_COLLISION = 11
    FORESEEN_DROP = 12
    FORESEEN_MISS = 13
    OUT_OF_DISTRIBUTION = 14
    PREDICTION_LATE = 20
    PREDICTION_INVALID = 21
    POLICY_LATE = 22
    POLICY_INVALID = 23
    PLAN_REFUSED = 24
    PLAN_ENDED = 25
    REPLANS_EXHAUSTED = 26
    SECOND_POLICY_PUBLISHER = 27
    AFTER_STOP = 28
    JOINT_STATE_LATE = 30
    JOINT_STATE_INVALID = 31
    TRACKING_ERROR = 32
    STALL = 33
    CONTACT = 34
    CONTACT_FORCE = 35
    TIME_UNSOUND = 40
    GATE_OVERRUN = 41
    SECOND_COMMAND_PUBLISHER = 42
    EXCEPTION = 43
    PERSON = 50
    BUTTON = 51
    BUTTON_LOST = 52
    LATCH_RESTORED = 53


class EventKind(enum.IntEnum):
    """Ground truth about an episode. The numbers are those of the message."""

    EPISODE_START = 0
    SUCCESS = 1
    FAILURE_ONSET = 2
    TIMEOUT = 3
    EPISODE_END = 4


@dataclass(frozen=True, slots=True)
class RobotState:
    """What a real arm's drivers report at one moment."""

    stamp_s: float
    joint_position_rad: Floats
    """(J,)"""
    joint_velocity_rad_s: Floats
    """(J,), nan where the driver reports none."""
    joint_effort_nm: Floats
    """(J,), motor torque, nan where the driver reports none."""
    gripper_opening_m: float
    """Distance between the fingertips."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a policy sees: camera images, the robot's own state, and the instruction."""

    stamp_s: float
    robot: RobotState
    images: Mapping[str, Image]
    """Camera name (``front``, ``wrist``) to uint8 RGB of shape (H, W, 3)."""
    instruction: str


@dataclass(frozen=True, slots=True)
class PointCloud:
    """Depth points in the camera's optical frame (z forward, x right, y down)."""

    stamp_s: float
    frame_id: str
    points_m: Floats32
    """(N, 3); invalid points are already left out."""


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """A joint trajectory: where the arm should be, counted from the observation's time.

    The first point lies one step after ``stamp_s``; by the time the chunk arrives some of
    its points are past, and whoever follows it enters at the nearest admissible one.
    """

    stamp_s: float
    time_from_start_s: Floats
    """(T,), strictly increasing, positive."""
    joint_position_rad: Floats
    """(T, J)"""
    gripper_opening_m: Floats
    """(T,), the opening commanded at each point."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How unsure a policy is about one chunk. ``nan`` = not available, never 0."""

    ensemble_size: int
    epistemic: float = NOT_AVAILABLE
    """Variance between members' mean chunks, averaged over steps and dimensions, in the
    policy's normalised action units squared. Undefined for an ensemble of one."""
    aleatoric: float = NOT_AVAILABLE
    """Variance between draws within a member, averaged likewise. Undefined for one draw."""
    std_per_dimension: Floats32 = field(default_factory=lambda: np.empty(0, np.float32))
    """(D,), total standard deviation over members and draws, averaged over steps."""
    overlap_divergence: float = NOT_AVAILABLE
    """Mean squared difference to the chunk before, over the steps both of them cover, in
    rad squared. Undefined for the first chunk."""
    velocity_field_disagreement: float = NOT_AVAILABLE
    """Disagreement of the members' denoising fields along their own trajectories."""
    latent: Floats32 = field(default_factory=lambda: np.empty(0, np.float32))
    """(L,), the condition that the action head sees, averaged over members; may be empty."""


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """One inference: what to do, and how sure the policy is of it."""

    sequence: int
    policy_name: str
    policy_hash: str
    """First 16 hexadecimal digits of the SHA-256 over the policy's weights and config."""
    instruction: str
    chunk: ActionChunk
    uncertainty: Uncertainty
    samples: Floats32
    """(members, draws, T, D), normalised actions that the uncertainty was computed from."""
    inference_time_s: float

    @property
    def stamp_s(self) -> float:
        """Time of the observation that this output answers."""
        return self.chunk.stamp_s


@dataclass(frozen=True, slots=True)
class FailurePrediction:
    """Probability of each failure inside each horizon, from ``stamp_s`` on.

    Horizons count in the path's nominal time, so slowing down stretches them.
    """

    stamp_s: float
    sequence: int
    """The policy output that was judged."""
    horizons_s: tuple[float, ...]
    probability: Floats
    """(len(FailureType), len(horizons_s)), never falling along the second axis."""
    timeout_probability: float
    """nan from a monitor that knows nothing of time-outs"""
    risk: float
    """Highest probability relative to its type's alarm threshold, clipped to [0, 1]:
    0.5 is exactly at the threshold."""
    risk_type: FailureType
    risk_horizon_s: float
    alarm: bool
    threshold: Floats
    """(len(FailureType),), probability at the longest horizon from which the alarm is up."""
    out_of_distribution: bool


@dataclass(frozen=True, slots=True)
class JointTrajectory:
    """A command as ros2_control's joint trajectory controller takes it.

    Times count from the moment the controller receives it.
    """

    time_from_start_s: Floats
    """(N,), non-decreasing, the first may be zero."""
    position_rad: Floats
    """(N, J)"""
    velocity_rad_s: Floats
    """(N, J); the last row is zero: every command ends in rest."""


@dataclass(frozen=True, slots=True)
class InterventionState:
    """What the gate is doing and why."""

    stamp_s: float
    mode: Mode
    cause: Cause
    reason: str
    speed_scale: float
    """Path time per nominal time, in [0, 1]."""
    sequence: int
    """The policy output being executed, -1 for none."""
    path_time_s: float
    """Time on that output's path, counted from its stamp; nan for none."""
    time_in_mode_s: float
    replan_count: int = 0
    assist_count: int = 0
    protective_stop_count: int = 0
    emergency_stop_count: int = 0
    refused_message_count: int = 0
    overrun_count: int = 0


@dataclass(frozen=True, slots=True)
class EpisodeEvent:
    """Ground truth from a simulator's privileged state, or an operator's mark."""

    stamp_s: float
    kind: EventKind
    failure: FailureType | None = None
    """Set for ``FAILURE_ONSET`` only."""
    seed: int = -1
    task: str = ""
    instruction: str = ""
    disturbance: str = ""
    detail: str = ""
