"""Ground truth: when a failure begins, by the definitions of the evaluation protocol.

The rules see one ``Truth`` per control period and nothing else, so that each can be tested on
scenes made by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.sim.tasks import Task
from salus_ros.sim.truth import Truth
from salus_ros.types import FailureType


class EventSettings(BaseModel):
    """Thresholds of the rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collision_force_n: float = Field(
        10.0,
        gt=0,
        description="Force on something fixed (table, bin, post) that is a collision: the nominal contact "
        "threshold of libfranka's examples; the undisturbed expert never reaches it.",
    )
    collision_time_s: float = Field(
        0.03, gt=0, description="For so long: three control periods, so that one spike of the solver is none."
    )
    cube_force_n: float = Field(
        0.3,
        gt=0,
        description="Force on a cube not named that is a collision: half of what it takes to slide it.",
    )
    cube_time_s: float = Field(0.05, gt=0, description="For so long; a touch that moves nothing is shorter.")
    press_force_n: float = Field(
        60.0,
        gt=0,
        description="Force of a named cube on the table that is a collision: a hand that comes down on it. "
        "Taking or pushing one presses it by less than 40 N, coming down on it by more than 100 N.",
    )
    clear_time_s: float = Field(
        0.3, gt=0, description="A collision is over, and another may begin, after so long without force."
    )
    miss_margin_m: float = Field(
        0.006,
        gt=0,
        description="Fingers closer than the width by this are past the object: squeezing a 4 cm cube at "
        "20 N takes less than 1 mm off.",
    )
    loss_time_s: float = Field(
        0.05, gt=0, description="A held object is lost after so long without both fingers on it."
    )
    opening_m: float = Field(
        0.005,
        gt=0,
        description="A command wider by this than the tightest since the grasp opens the hand: a policy may "
        "let go slowly, and the object is out before the command is wider than it.",
    )
    success_time_s: float = Field(0.15, gt=0, description="The goal must stay reached for so long.")


@dataclass(frozen=True, slots=True)
class Onset:
    """A failure begins."""

    stamp_s: float
    failure: FailureType
    detail: str


class CollisionRule:
    """First contact over a force, for a time, with anything that the task does not ask to touch.

    The onset is the moment when the force was first exceeded.
    """

    def __init__(self, force_n: float, time_s: float, clear_time_s: float, what: str) -> None:
        self._force_n, self._time_s, self._clear_time_s, self._what = force_n, time_s, clear_time_s, what
        self._since_s: float | None = None
        self._last_s = -float("inf")
        self._active = False

    def update(self, time_s: float, force_n: float) -> Onset | None:
        """Look at the force of one control period."""
        if force_n < self._force_n:
            self._since_s = None
            if time_s - self._last_s >= self._clear_time_s:
                self._active = False
            return None
        self._last_s = time_s
        if self._since_s is None:
            self._since_s = time_s
        if self._active or time_s - self._since_s < self._time_s - 1e-9:
            return None
        self._active = True
        return Onset(self._since_s, FailureType.COLLISION, f"{self._what}, {force_n:.1f} N")


class DropRule:
    """A held object leaves the fingers without an opening commanded over the goal."""

    def __init__(self, settings: EventSettings, task: Task) -> None:
        self._settings, self._task = settings, task
        self._held = -1
        self._last_held_s = 0.0
        self._tightest_m = 0.0
        self._released = False

    def update(self, truth: Truth) -> Onset | None:
        """Look at one control period. The onset is the moment when the fingers lost the object."""
        if truth.held >= 0:
            command_m = truth.gripper_command_m
            self._tightest_m = min(self._tightest_m, command_m) if self._held >= 0 else command_m
            opening = command_m > min(
                truth.cube_size_m[truth.held], self._tightest_m + self._settings.opening_m
            )
            # Opening must be commanded over the goal while the object is still in the hand.
            self._released = opening and truth.held == truth.target and self._task.release_allowed(truth)
            self._held, self._last_held_s = truth.held, truth.time_s
            return None
        if self._held < 0 or truth.time_s - self._last_held_s < self._settings.loss_time_s:
            return None
        lost, self._held = self._held, -1
        if self._released:
            return None
        return Onset(self._last_held_s, FailureType.DROP, f"the {truth.colours[lost]} cube")


class MissRule:
    """The fingers, commanded to close on an object, become narrower than it without it between them.

    Counts once per closing, and not when the object was held before: that is a drop. Where the task does not
    ask for a grasp, a closed hand has missed nothing.
    """

    def __init__(self, settings: EventSettings, task: Task) -> None:
        self._settings, self._task = settings, task
        self._done = False

    def update(self, truth: Truth) -> Onset | None:
        """Look at one control period."""
        if not self._task.grasps:
            return None
        width = truth.cube_size_m[truth.target]
        if truth.gripper_command_m >= width:
            self._done = False
            return None
        if truth.held >= 0:
            self._done = True
        if self._done or truth.gripped >= 0 or truth.gripper_opening_m > width - self._settings.miss_margin_m:
            return None
        self._done = True
        return Onset(truth.time_s, FailureType.MISS, f"opening {1e3 * truth.gripper_opening_m:.0f} mm")


class SuccessRule:
    """The goal is reached and stays so for a while."""

    def __init__(self, settings: EventSettings, task: Task) -> None:
        self._time_s, self._task = settings.success_time_s, task
        self._since_s: float | None = None

    def update(self, truth: Truth) -> bool:
        """Look at one control period."""
        if not self._task.succeeded(truth):
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = truth.time_s
        return truth.time_s - self._since_s >= self._time_s - 1e-9


class Referee:
    """All rules of one episode."""

    def __init__(self, settings: EventSettings, task: Task) -> None:
        self._fixed = CollisionRule(
            settings.collision_force_n, settings.collision_time_s, settings.clear_time_s, "fixed object"
        )
        self._cube = CollisionRule(
            settings.cube_force_n, settings.cube_time_s, settings.clear_time_s, "cube not named"
        )
        self._press = CollisionRule(
            settings.press_force_n,
            settings.collision_time_s,
            settings.clear_time_s,
            "named cube pressed down",
        )
        self._drop = DropRule(settings, task)
        self._miss = MissRule(settings, task)
        self._success = SuccessRule(settings, task)

    def update(self, truth: Truth) -> tuple[tuple[Onset, ...], bool]:
        """Onsets seen in this control period, and whether the task has succeeded."""
        onsets = (
            self._fixed.update(truth.time_s, truth.contact_force_n),
            self._cube.update(truth.time_s, truth.cube_contact_force_n),
            self._press.update(truth.time_s, truth.press_force_n),
            self._drop.update(truth),
            self._miss.update(truth),
        )
        return tuple(onset for onset in onsets if onset is not None), self._success.update(truth)
