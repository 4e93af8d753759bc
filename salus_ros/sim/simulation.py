"""One robot in one world: what a real arm's drivers offer, and the truth besides."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import salus_ros.robot.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import mujoco
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.errors import SalusError
from salus_ros.robot.model import ArmModel
from salus_ros.sim.cloud import CloudSettings, cloud_from_depth
from salus_ros.sim.contacts import Contacts, read_contacts
from salus_ros.sim.contacts import gripped as gripped_cube
from salus_ros.sim.controller import ArmController, GripperController
from salus_ros.sim.disturbances import Disturbance, draw_disturbance
from salus_ros.sim.events import EventSettings, Referee
from salus_ros.sim.layout import Layout, TaskSettings, check_settings
from salus_ros.sim.renderer import Cameras
from salus_ros.sim.start import StartPostures
from salus_ros.sim.tasks import Task, task_named
from salus_ros.sim.truth import Truth
from salus_ros.sim.world import (
    COLOURS,
    CUBE_SIZE_M,
    CUBES,
    DAMPING_TIME_S,
    FRONT_CAMERA,
    OBSTACLE_MAX_HEIGHT_M,
    WRIST_CAMERA,
    WorldSettings,
    build_world,
)
from salus_ros.types import (
    EpisodeEvent,
    EventKind,
    Floats,
    Image,
    JointTrajectory,
    Observation,
    PointCloud,
    RobotState,
)

CONTROL_PERIOD_S: Final = 0.01
LARGEST_OPENING_M: Final = 0.08
_LIFTED_M: Final = 0.02
_GONE_BELOW_M: Final = -0.1

SUCCESS: Final = "success"
TIMEOUT: Final = "timeout"
LOST: Final = "lost"


class SimSettings(BaseModel):
    """Everything about a simulation but the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: WorldSettings = WorldSettings()
    tasks: TaskSettings = TaskSettings()
    events: EventSettings = EventSettings()
    cloud: CloudSettings = CloudSettings()
    image_size_px: int = Field(128, ge=16, le=640, description="Width and height of camera images.")
    time_limit_s: float = Field(
        14.0, gt=0, description="Simulated time after which an episode has timed out."
    )
    gripper_speed_m_s: float = Field(
        0.1, gt=0, description="Speed of the opening; published for the Franka Hand: 50 mm/s per finger."
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """What ``reset`` drew."""

    seed: int
    task: str
    instruction: str
    disturbance: str
    """The family that was drawn, also for ``mixed``; empty for none."""
    strength: float
    """How strong the disturbance is, from 0 to 1; nan for none."""
    layout: Layout


@dataclass
class _Episode:
    """What changes during an episode besides MuJoCo's own state."""

    scene: Scene
    task: Task
    disturbance: Disturbance
    referee: Referee
    arm: ArmController
    gripper: GripperController
    lagged_rad: Floats
    joint_bias_rad: Floats
    """(J,), what the joint sensors report beyond the true position."""
    ticks: int = 0
    held: int = -1
    outcome: str = ""
    started: bool = False


class _ArmInput:
    """Where arm commands go."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def accept(self, trajectory: JointTrajectory, joint_names: Sequence[str] | None = None) -> None:
        """See ``ArmController.accept``."""
        self._simulation._current.arm.accept(trajectory, joint_names)


class _GripperInput:
    """Where gripper commands go, as an opening in metres."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def accept(self, opening_m: float) -> None:
        """Command an opening."""
        measured = self._simulation.gripper_opening_m
        self._simulation._current.gripper.accept(opening_m, measured)


class Simulation:
    """Deterministic: the same seed, task, disturbance and commands give the same arrays.

    ``reset`` first. Time counts from 0 at each reset and moves by 0.01 s per ``step``.
    """

    def __init__(self, settings: SimSettings | None = None) -> None:
        self.settings = settings or SimSettings()
        check_settings(self.settings.tasks)
        self._world = build_world(self.settings.world)
        self._model = self._world.model
        self._data = mujoco.MjData(self._model)
        self._substeps = round(CONTROL_PERIOD_S / self.settings.world.time_step_s)
        self._start = StartPostures(self._world.arm)
        self._cameras = Cameras(self._model, self._data)
        self._episode: _Episode | None = None
        self._contacts = Contacts(-1, np.zeros(CUBES, dtype=bool), 0.0, 0.0, 0.0)
        self._truth: Truth | None = None
        self.arm = _ArmInput(self)
        self.gripper = _GripperInput(self)

    @property
    def arm_model(self) -> ArmModel:
        """Joints, limits and kinematics of the simulated arm."""
        return self._world.arm

    @property
    def time_s(self) -> float:
        """Time since the reset."""
        return self._current.ticks * CONTROL_PERIOD_S

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self._current.outcome != ""

    @property
    def outcome(self) -> str:
        """``success``, ``timeout``, ``lost`` (a named cube left the table), or empty while it runs."""
        return self._current.outcome

    @property
    def scene(self) -> Scene:
        """What the last reset drew."""
        return self._current.scene

    @property
    def gripper_opening_m(self) -> float:
        """Measured distance between the fingertips."""
        return float(self._data.qpos[self._world.finger_qpos].sum())

    def reset(self, seed: int, task: str = "bin", disturbance: str = "") -> Scene:
        """Draw a scene and put everything in its place.

        Args:
            seed: of the scene and the disturbance; the scene is the same for every disturbance
                that does not change it.
            task: name of a task.
            disturbance: name of a family, alone or with a strength (``slippery:0.8``), ``mixed``, or empty.

        Raises:
            SalusError: unknown task or disturbance, or a negative seed.
        """
        if seed < 0:
            raise SalusError(f"The seed is {seed}, but expected 0 or more.")
        chosen = task_named(task)
        scene_rng, disturbance_rng = (np.random.default_rng([seed, stream]) for stream in (0, 1))
        drawn, strength = draw_disturbance(disturbance, disturbance_rng)
        layout = drawn.change_layout(chosen.draw(scene_rng, self.settings.tasks))
        self._world.restore_defaults()
        self._build(layout)
        drawn.change_world(self._world, layout)
        # Contact stiffness follows from the masses.
        mujoco.mj_setConst(self._model, self._data)
        mujoco.mj_resetData(self._model, self._data)
        posture = self._start.posture(layout.tool_position_m)
        self._place(layout, posture)
        arm = ArmController(self._world.arm.joint_names)
        bias = drawn.joint_bias_rad(len(posture))
        arm.reset(posture + bias)
        scene = Scene(seed, task, layout.instruction, drawn.name, strength, layout)
        self._episode = _Episode(
            scene=scene,
            task=chosen,
            disturbance=drawn,
            referee=Referee(self.settings.events, chosen),
            arm=arm,
            gripper=GripperController(self.settings.gripper_speed_m_s, LARGEST_OPENING_M),
            lagged_rad=posture,
            joint_bias_rad=bias,
        )
        mujoco.mj_forward(self._model, self._data)
        self._observe_truth()
        return scene

    def step(self) -> tuple[EpisodeEvent, ...]:
        """Let one control period of 0.01 s pass; returns what happened in it.

        A failure's stamp is when it began, up to 0.05 s before now. After the episode's end the arm
        lives on, but nothing is an event any more.
        """
        episode = self._current
        events = []
        if not episode.started:
            episode.started = True
            events.append(self._event(EventKind.EPISODE_START, self.time_s))
        episode.disturbance.step(self._world, self._data, self.truth())
        self._advance_physics(episode)
        episode.ticks += 1
        self._observe_truth()
        if episode.outcome:
            return ()
        onsets, succeeded = episode.referee.update(self.truth())
        events += [
            self._event(EventKind.FAILURE_ONSET, o.stamp_s, o.detail, failure=o.failure) for o in onsets
        ]
        if succeeded:
            episode.outcome = SUCCESS
            events.append(self._event(EventKind.SUCCESS, self.time_s))
        elif (self.truth().cube_position_m[list(self.truth().named), 2] < _GONE_BELOW_M).any():
            episode.outcome = LOST
        elif self.time_s >= self.settings.time_limit_s - 1e-9:
            episode.outcome = TIMEOUT
            events.append(self._event(EventKind.TIMEOUT, self.time_s))
        if episode.outcome:
            events.append(self._event(EventKind.EPISODE_END, self.time_s, episode.outcome))
        return tuple(events)

    def robot_state(self) -> RobotState:
        """Measured joints; the effort is the motors' torque, gravity compensation included."""
        world, data = self._world, self._data
        return RobotState(
            stamp_s=self.time_s,
            joint_position_rad=data.qpos[world.arm_qpos] + self._current.joint_bias_rad,
            joint_velocity_rad_s=data.qvel[world.arm_dof],
            joint_effort_nm=data.qfrc_actuator[world.arm_dof],
            gripper_opening_m=self.gripper_opening_m,
        )

    def observe(self) -> Observation:
        """Render both cameras and read the robot's state."""
        size = self.settings.image_size_px
        return Observation(
            stamp_s=self.time_s,
            robot=self.robot_state(),
            images={camera: self.render(camera, size, size) for camera in (FRONT_CAMERA, WRIST_CAMERA)},
            instruction=self._current.scene.instruction,
        )

    def render(self, camera: str, width: int, height: int) -> Image:
        """(height, width, 3) uint8 RGB image of a camera, disturbances of the camera included."""
        image = self._cameras.image(camera, width, height)
        return self._current.disturbance.see(image, camera, self.time_s)

    def point_cloud(self) -> PointCloud:
        """What the front camera's depth sensor sees of the workspace, thinned to a few hundred points."""
        settings = self.settings.cloud
        depth = self._cameras.depth(FRONT_CAMERA, settings.width_px, settings.height_px)
        fovy_deg = float(self._model.cam_fovy[self._model.camera(FRONT_CAMERA).id])
        points = cloud_from_depth(depth, fovy_deg, self.camera_pose(FRONT_CAMERA), settings)
        return PointCloud(self.time_s, f"{FRONT_CAMERA}_optical_frame", points)

    def camera_pose(self, name: str) -> Floats:
        """(4, 4) pose of a camera's optical frame (z forward, x right, y down) in the base frame."""
        return self._cameras.pose(name)

    def camera_fovy_deg(self, name: str) -> float:
        """Vertical field of view of a camera."""
        return float(self._model.cam_fovy[self._cameras.index(name)])

    def truth(self) -> Truth:
        """Privileged state; only experts, labels and evaluation may look."""
        if self._truth is None:
            raise SalusError("The simulation has no episode yet; call reset.")
        return self._truth

    def save(self) -> object:
        """Everything needed to continue from this moment, to be given to ``restore``."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(self._model, kind))
        mujoco.mj_getState(self._model, self._data, state, kind)
        return _Saved(
            state, self._world.changes(), copy.deepcopy(self._current), self._contacts, self.truth()
        )

    def restore(self, state: object) -> None:
        """Go back to a saved moment; the same state may be restored many times."""
        if not isinstance(state, _Saved):
            raise SalusError(f"Got a {type(state).__name__} to restore, but expected what save returned.")
        self._world.restore_changes(state.model)
        mujoco.mj_setConst(self._model, self._data)
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self._model, self._data, state.physics, kind)
        mujoco.mj_forward(self._model, self._data)
        # The line above starts the next solution elsewhere than the branch it was saved from did.
        mujoco.mj_setState(self._model, self._data, state.physics, kind)
        self._episode = copy.deepcopy(state.episode)
        self._contacts, self._truth = state.contacts, state.truth

    @property
    def _current(self) -> _Episode:
        if self._episode is None:
            raise SalusError("The simulation has no episode yet; call reset.")
        return self._episode

    def _build(self, layout: Layout) -> None:
        """Make the model's fixed things and cubes those of the layout."""
        world, model = self._world, self._model
        for i in range(CUBES):
            model.geom_rgba[world.cube_geom[i]] = COLOURS[layout.colours[i]]
            if layout.cube_size_m[i] != CUBE_SIZE_M:
                world.resize_cube(i, float(layout.cube_size_m[i]))
        model.body_pos[world.bin_body] = layout.bin_position_m
        model.body_pos[world.mark_body] = layout.mark_position_m
        model.body_pos[world.obstacle_body] = layout.obstacle_position_m
        # A post shorter than the model's is the model's, sunk into the table.
        model.body_pos[world.obstacle_body, 2] += layout.obstacle_height_m - OBSTACLE_MAX_HEIGHT_M

    def _place(self, layout: Layout, posture: Floats) -> None:
        world, data = self._world, self._data
        data.qpos[world.arm_qpos] = data.ctrl[world.arm_actuator] = posture
        data.qpos[world.finger_qpos] = data.ctrl[world.finger_actuator] = LARGEST_OPENING_M / 2
        for i in range(CUBES):
            half = layout.cube_yaw_rad[i] / 2
            data.qpos[world.cube_qpos[i]] = [*layout.cube_position_m[i], np.cos(half), 0, 0, np.sin(half)]

    def _advance_physics(self, episode: _Episode) -> None:
        world, data = self._world, self._data
        step_s = self.settings.world.time_step_s
        lag_s = episode.disturbance.command_lag_s()
        share = 1.0 if lag_s == 0.0 else 1.0 - np.exp(-step_s / lag_s)
        for _ in range(self._substeps):
            episode.arm.advance(step_s)
            episode.gripper.advance(step_s)
            position, velocity = episode.arm.desired()
            # The servos steer by the same sensors that report the joints.
            position = position - episode.joint_bias_rad
            # The servo's damping acts on the joint's own velocity; leading the target by it makes the
            # servo damp the velocity error, as real ones do.
            target = position + DAMPING_TIME_S * velocity
            episode.lagged_rad = episode.lagged_rad + share * (target - episode.lagged_rad)
            data.ctrl[world.arm_actuator] = episode.lagged_rad
            data.ctrl[world.finger_actuator] = episode.gripper.reference_m / 2
            mujoco.mj_step(self._model, data)
        # Poses and contacts of the state that was reached, not of the one before it.
        mujoco.mj_forward(self._model, data)

    def _observe_truth(self) -> None:
        """Read the privileged state of this moment."""
        world, data, episode = self._world, self._data, self._current
        layout = episode.scene.layout
        contacts = read_contacts(world, data, episode.task, layout, episode.held)
        gripped = gripped_cube(contacts, self.gripper_opening_m, layout.cube_size_m)
        lifted_m = data.xpos[world.cube_body[gripped], 2] - layout.cube_position_m[gripped, 2]
        if gripped < 0 or (episode.held != gripped and lifted_m < _LIFTED_M):
            episode.held = -1
        else:
            episode.held = gripped
        tool_pose = np.eye(4)
        tool_pose[:3, :3] = data.xmat[world.tool_body].reshape(3, 3)
        tool_pose[:3, 3] = data.xpos[world.tool_body]
        velocity = np.zeros(6)
        mujoco.mj_objectVelocity(self._model, data, mujoco.mjtObj.mjOBJ_BODY, world.tool_body, velocity, 0)
        self._contacts = contacts
        self._truth = Truth(
            time_s=self.time_s,
            colours=layout.colours,
            target=layout.target,
            second=layout.second,
            cube_position_m=data.xpos[world.cube_body],
            cube_rotation=data.xmat[world.cube_body].reshape(CUBES, 3, 3),
            cube_velocity_m_s=data.qvel[world.cube_dof[:, :3]],
            cube_size_m=layout.cube_size_m,
            gripped=gripped,
            held=episode.held,
            touched=contacts.touched,
            bin_position_m=layout.bin_position_m,
            mark_position_m=layout.mark_position_m,
            obstacle_position_m=layout.obstacle_position_m,
            obstacle_height_m=layout.obstacle_height_m,
            tool_pose=tool_pose,
            tool_velocity=np.concatenate([velocity[3:], velocity[:3]]),
            gripper_opening_m=self.gripper_opening_m,
            gripper_command_m=episode.gripper.commanded_m,
            contact_force_n=contacts.fixed_force_n,
            cube_contact_force_n=contacts.cube_force_n,
            press_force_n=contacts.press_force_n,
        )

    def _event(self, kind: EventKind, stamp_s: float, detail: str = "", **more: Any) -> EpisodeEvent:
        scene = self._current.scene
        return EpisodeEvent(
            stamp_s=stamp_s,
            kind=kind,
            seed=scene.seed,
            task=scene.task,
            instruction=scene.instruction,
            disturbance=scene.disturbance,
            detail=detail,
            **more,
        )


@dataclass(frozen=True)
class _Saved:
    physics: Floats
    model: dict[str, Any]
    episode: _Episode
    contacts: Contacts
    truth: Truth
