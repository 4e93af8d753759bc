"""The same scenes and the same ground truth where Gazebo simulates: nothing here needs Gazebo or ROS.

``worlds/salus.sdf`` holds the surroundings that ``world.py`` builds for MuJoCo. ``place`` lays a drawn
scene into it, and ``Watch`` turns the contacts and poses that Gazebo reports into the truth that the referee
judges, so that a collision, a drop or a miss means the same in either simulator.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import salus_ros.robot.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import numpy as np

from salus_ros.errors import SalusError
from salus_ros.robot.model import ArmModel
from salus_ros.sim import contacts
from salus_ros.sim.contacts import Contacts
from salus_ros.sim.events import Referee
from salus_ros.sim.layout import Layout
from salus_ros.sim.simulation import LOST, SUCCESS, TIMEOUT, Scene, SimSettings
from salus_ros.sim.tasks import Task, task_named
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import COLOURS, CUBES, FINGERS, OBSTACLE_MAX_HEIGHT_M, Owner, WorldSettings
from salus_ros.types import EpisodeEvent, EventKind, Floats, RobotState

DEFAULT_SEED: Final = 5
"""Of the scene that ``worlds/salus.sdf`` shows as it is: it has an obstacle."""

ROBOT: Final = "salus_arm"
"""Name of the arm's model in Gazebo."""

LIFTED_M: Final = 0.02
"""A gripped cube counts as held from this height over its rest."""

GONE_BELOW_M: Final = -0.1
"""A cube this far under the table's top has left the table."""

_FIXED: Final = {"table": Owner.TABLE, "bin": Owner.BIN, "obstacle": Owner.OBSTACLE}
_FINGER_OWNERS: Final = {FINGERS[0]: Owner.LEFT_FINGER, FINGERS[1]: Owner.RIGHT_FINGER}


def scene(seed: int, task: str = "bin", settings: SimSettings | None = None) -> Scene:
    """The undisturbed scene that ``Simulation.reset`` draws for this seed.

    Raises:
        SalusError: unknown task or negative seed.
    """
    if seed < 0:
        raise SalusError(f"The seed is {seed}, but expected 0 or more.")
    settings = settings or SimSettings()
    layout = task_named(task).draw(np.random.default_rng([seed, 0]), settings.tasks)
    return Scene(seed, task, layout.instruction, "", float("nan"), layout)


def place(sdf: str, layout: Layout) -> str:
    """A copy of the world with cubes, bin, mark and obstacle where the layout has them, in its colours.

    Raises:
        SalusError: the text is no world with the models that are to be placed.
    """
    try:
        root = ElementTree.fromstring(sdf, ElementTree.XMLParser(target=_KeepComments()))
    except ElementTree.ParseError as error:
        raise SalusError(f"The world is no valid XML ({error}); expected worlds/salus.sdf.") from error
    models = {model.get("name"): model for model in root.iterfind("world/model")}
    poses = {
        "bin": [*layout.bin_position_m, 0.0, 0.0, 0.0],
        "mark": [*layout.mark_position_m, 0.0, 0.0, 0.0],
        # A post shorter than the model's is the model's, sunk into the table.
        "obstacle": [
            *layout.obstacle_position_m[:2],
            layout.obstacle_position_m[2] + layout.obstacle_height_m - OBSTACLE_MAX_HEIGHT_M,
            *(0.0, 0.0, 0.0),
        ],
    }
    for i in range(CUBES):
        poses[f"cube_{i}"] = [*layout.cube_position_m[i], 0.0, 0.0, layout.cube_yaw_rad[i]]
    for name, pose in poses.items():
        element = models[name].find("pose") if name in models else None
        if element is None:
            raise SalusError(f"The world has no model {name} with a pose; expected worlds/salus.sdf.")
        element.text = " ".join(f"{value:.9g}" for value in pose)
    for i, colour in enumerate(layout.colours):
        for element in models[f"cube_{i}"].iterfind(".//material/*"):
            if element.tag in ("ambient", "diffuse"):
                element.text = " ".join(f"{value:g}" for value in COLOURS[colour])
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def front_camera_pose(settings: WorldSettings) -> Floats:
    """(4, 4) pose of the front camera's optical frame in the base frame."""
    position = np.array(settings.front_camera_position_m)
    forward = np.array(settings.front_camera_target_m) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return pose


class _KeepComments(ElementTree.TreeBuilder):
    def __init__(self) -> None:
        super().__init__(insert_comments=True)


@dataclass(frozen=True, slots=True)
class Touch:
    """Two collision shapes that touch."""

    first: str
    """Scoped name, such as ``cube_0::link::cube_0``."""
    second: str
    force_n: float
    """Normal force, summed over their points of contact."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What Gazebo and the arm's controllers say about one moment. N cubes."""

    time_s: float
    """Since the episode's start."""
    robot: RobotState
    cube_pose: Floats
    """(N, 4, 4) in the base frame."""
    touches: tuple[Touch, ...]
    gripper_command_m: float


class Watch:
    """Follows one episode and says what happens in it, by the rules of the MuJoCo simulation."""

    def __init__(self, scene: Scene, arm: ArmModel, settings: SimSettings | None = None) -> None:
        self._scene, self._arm = scene, arm
        self._settings = settings or SimSettings()
        self._task: Task = task_named(scene.task)
        self._referee = Referee(self._settings.events, self._task)
        self._held = -1
        self._last: Truth | None = None
        self.outcome = ""
        """As ``Simulation.outcome``; empty while the episode runs."""

    @property
    def truth(self) -> Truth:
        """The privileged state of the last moment.

        Raises:
            SalusError: there was none yet.
        """
        if self._last is None:
            raise SalusError("Nothing was observed yet; call update.")
        return self._last

    def update(self, moment: Moment) -> tuple[EpisodeEvent, ...]:
        """What happened since the moment before; nothing once the episode has ended."""
        if self.outcome:
            return ()
        started = self._last is not None
        if self._last is not None and moment.time_s <= self._last.time_s:
            return ()
        truth = self._last = self._truth(moment)
        events = [] if started else [self._event(EventKind.EPISODE_START, moment.time_s)]
        onsets, succeeded = self._referee.update(truth)
        events += [
            self._event(EventKind.FAILURE_ONSET, o.stamp_s, o.detail, failure=o.failure) for o in onsets
        ]
        if succeeded:
            self.outcome = SUCCESS
            events.append(self._event(EventKind.SUCCESS, moment.time_s))
        elif (truth.cube_position_m[list(truth.named), 2] < GONE_BELOW_M).any():
            self.outcome = LOST
        elif moment.time_s >= self._settings.time_limit_s - 1e-9:
            self.outcome = TIMEOUT
            events.append(self._event(EventKind.TIMEOUT, moment.time_s))
        if self.outcome:
            events.append(self._event(EventKind.EPISODE_END, moment.time_s, self.outcome))
        return tuple(events)

    def _truth(self, moment: Moment) -> Truth:
        layout = self._scene.layout
        position = moment.cube_pose[:, :3, 3]
        touching = judge(moment.touches, self._task, layout.target, self._held, layout.second)
        gripped = contacts.gripped(touching, moment.robot.gripper_opening_m, layout.cube_size_m)
        lifted = gripped >= 0 and position[gripped, 2] >= layout.cube_position_m[gripped, 2] + LIFTED_M
        self._held = gripped if gripped >= 0 and (lifted or self._held == gripped) else -1
        tool_pose = self._arm.forward(moment.robot.joint_position_rad)
        return Truth(
            time_s=moment.time_s,
            colours=layout.colours,
            target=layout.target,
            second=layout.second,
            cube_position_m=position,
            cube_rotation=moment.cube_pose[:, :3, :3],
            cube_velocity_m_s=self._change(moment.time_s, position, "cube_position_m"),
            cube_size_m=layout.cube_size_m,
            gripped=gripped,
            held=self._held,
            touched=touching.touched,
            bin_position_m=layout.bin_position_m,
            mark_position_m=layout.mark_position_m,
            obstacle_position_m=layout.obstacle_position_m,
            obstacle_height_m=layout.obstacle_height_m,
            tool_pose=tool_pose,
            tool_velocity=self._tool_velocity(moment.time_s, tool_pose),
            gripper_opening_m=moment.robot.gripper_opening_m,
            gripper_command_m=moment.gripper_command_m,
            contact_force_n=touching.fixed_force_n,
            cube_contact_force_n=touching.cube_force_n,
            press_force_n=touching.press_force_n,
        )

    def _change(self, time_s: float, value: Floats, name: str) -> Floats:
        """Rate of a part of the truth since the moment before, 0 at the first."""
        if self._last is None:
            return np.zeros_like(value)
        return np.asarray((value - getattr(self._last, name)) / (time_s - self._last.time_s))

    def _tool_velocity(self, time_s: float, pose: Floats) -> Floats:
        if self._last is None:
            return np.zeros(6)
        span_s = time_s - self._last.time_s
        turn = (pose[:3, :3] @ self._last.tool_pose[:3, :3].T - np.eye(3)) / span_s
        linear = (pose[:3, 3] - self._last.tool_pose[:3, 3]) / span_s
        # Of a small turn: half the skew-symmetric part of the rotation's change.
        angular = 0.5 * np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        return np.concatenate([linear, angular])

    def _event(self, kind: EventKind, stamp_s: float, detail: str = "", **more: Any) -> EpisodeEvent:
        drawn = self._scene
        return EpisodeEvent(
            stamp_s=stamp_s,
            kind=kind,
            seed=drawn.seed,
            task=drawn.task,
            instruction=drawn.instruction,
            disturbance=drawn.disturbance,
            detail=detail,
            **more,
        )


def owner(name: str) -> int:
    """To whom a shape with this scoped name belongs, see ``world.Owner``."""
    model, _, rest = name.partition("::")
    if model == ROBOT:
        return _FINGER_OWNERS.get(rest.partition("::")[0], Owner.ARM)
    number = model.removeprefix("cube_")
    if model.startswith("cube_") and number.isdecimal() and int(number) < CUBES:
        return Owner.CUBE + int(number)
    return _FIXED.get(model, Owner.NOTHING)


def judge(touches: Iterable[Touch], task: Task, target: int, held: int, second: int = -1) -> Contacts:
    """Who touches whom, and how hard; two shapes that report each other count once."""
    pairs: dict[tuple[str, str], float] = {}
    for touch in touches:
        pair = (touch.first, touch.second) if touch.first < touch.second else (touch.second, touch.first)
        pairs[pair] = max(touch.force_n, pairs.get(pair, 0.0))
    owners = (sorted(owner(name) for name in names) for names in pairs)
    forces = pairs.values()
    return contacts.judge(
        [(low, high, force_n) for (low, high), force_n in zip(owners, forces, strict=True)],
        task,
        target,
        second,
        held,
    )
