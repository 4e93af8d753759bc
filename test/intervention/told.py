"""Parts of the gate on their own: senses that are told what happens, and an arm's motion beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gate_world import ARM, HOME, chunk, output, prediction

from salus_ros.intervention.follower import MotionLimits
from salus_ros.intervention.inputs import Fault, GateInputs, Request, RequestKind
from salus_ros.intervention.limits import Limits
from salus_ros.intervention.motion import ArmMotion, EntryRules
from salus_ros.intervention.rules import Trigger
from salus_ros.intervention.senses import Senses
from salus_ros.intervention.settings import GateSettings
from salus_ros.types import FailurePrediction, Floats, PolicyOutput, RobotState

PERIOD_S = 0.01
REST = np.zeros(7)


def turned(joint: int, angle_rad: float, start: Floats = HOME) -> Floats:
    return start + angle_rad * (np.arange(7) == joint)


def limits_of(settings: GateSettings) -> Limits:
    s = settings
    return Limits(ARM, s.position_margin_rad, s.workspace_lower_m, s.workspace_upper_m)


def arm_at(position: Floats = HOME, settings: GateSettings | None = None) -> ArmMotion:
    """An arm that holds a position and has come to rest there."""
    s = settings or GateSettings()
    motion = ArmMotion(position, MotionLimits.of(ARM, s), limits_of(s), EntryRules.of(s))
    motion.advance(1.0)
    return motion


class Told:
    """Senses that are told what happens, and two clocks."""

    def __init__(self, **settings: object) -> None:
        self.settings = GateSettings(**settings)
        self.senses = Senses(self.settings, ARM, limits_of(self.settings))
        self.now_s = 100.0
        self.ros_s = 1000.0
        self.ticks = 0

    def tick(self, step_s: float = 0.01, *requests: RequestKind, **inputs: object) -> tuple[str, ...]:
        self.now_s += step_s
        self.ros_s += step_s
        self.ticks += 1
        assert self.ticks < 2000, "what the test waits for never comes"
        asked = tuple(Request(kind) for kind in requests)
        return self.senses.take(self.now_s, GateInputs(self.ros_s, requests=asked, **inputs))

    def robot(self, position: Floats = HOME, age_s: float = -0.01, **changes: object) -> RobotState:
        """As of the next tick."""
        return replace(RobotState(self.ros_s - age_s, position, REST, REST, 0.08), **changes)

    def plan(self, age_s: float = -0.01, points: Floats | None = None) -> PolicyOutput:
        return output(1, chunk(self.ros_s - age_s, np.tile(HOME, (16, 1)) if points is None else points))

    def foreseen(self, age_s: float = -0.01) -> FailurePrediction:
        return prediction(self.ros_s - age_s)

    def all_fresh(self) -> Told:
        why = self.tick(
            PERIOD_S,
            RequestKind.BUTTON_RELEASED,
            robot=self.robot(),
            plan=self.plan(),
            prediction=self.foreseen(),
        )
        assert why == ()
        return self

    def armed(self) -> Told:
        """Everything was heard at this moment, from which on it is watched."""
        self.all_fresh()
        self.senses.arm(self.now_s)
        assert self.present() == set()
        return self

    def present(self, *faults: Fault) -> frozenset[Trigger]:
        return self.senses.present(self.now_s, faults)

    def passes(self, duration_s: float) -> frozenset[Trigger]:
        """Time in which nothing is heard, in steps of a period; what is present then."""
        for _ in range(round(duration_s / 0.01)):
            self.tick()
        return self.present()
