"""The MuJoCo world: arm, table, cubes, bin, obstacle, lights and cameras.

It is compiled once. Episodes differ only in values that are changed in place (positions,
colours, friction, masses), so that a reset costs no compilation; ``World.restore_defaults``
undoes them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import salus_ros.robot.gl  # noqa: F401, isort: skip  (chooses the renderer before mujoco is imported)
import mujoco
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.robot.model import ArmModel
from salus_ros.types import Floats

COLOURS: Final = {
    "red": (0.80, 0.10, 0.10, 1.0),
    "green": (0.10, 0.60, 0.15, 1.0),
    "blue": (0.10, 0.20, 0.80, 1.0),
    "yellow": (0.90, 0.80, 0.10, 1.0),
}
CUBES: Final = 3
CUBE_SIZE_M: Final = 0.04
CUBE_MASS_KG: Final = 0.06
BIN_INNER_HALF_M: Final = 0.07
BIN_WALL_M: Final = 0.008
BIN_HEIGHT_M: Final = 0.08
MARK_RADIUS_M: Final = 0.045
MARK_HEIGHT_M: Final = 0.001
OBSTACLE_RADIUS_M: Final = 0.02
OBSTACLE_MAX_HEIGHT_M: Final = 0.30
PARKED_M: Final = (0.45, 0.0, -2.0)
"""Where things lie that an episode does not use."""

FRONT_CAMERA: Final = "front"
WRIST_CAMERA: Final = "wrist"
FINGER_JOINTS: Final = ("panda_finger_joint1", "panda_finger_joint2")
FINGERS: Final = ("panda_leftfinger", "panda_rightfinger")
HAND: Final = "panda_hand"

# Which geoms may touch: bit 1 for the arm, bit 2 for the world. The arm is not tested against
# itself: inside the workspace its joint limits keep its links apart.
_ARM_BITS: Final = (1, 2)
_WORLD_BITS: Final = (2, 3)
# These links cannot reach anything, and the lower end of the shoulder's capsule lies in the table.
_UNTOUCHABLE_LINKS: Final = ("panda_link0", "panda_link1")

# Position servos of the arm: stiffness in Nm/rad, from base to tool, damping a tenth of it.
_STIFFNESS: Final = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)
DAMPING_TIME_S: Final = 0.1
# Inertia of motor and gear seen by the joint, kg m^2: keeps the stiff servos stable.
_ARMATURE: Final = 0.1
_FINGER_STIFFNESS: Final = 4000.0
_FINGER_DAMPING: Final = 100.0

_NEAR_CLIP_M: Final = 0.01
_FAR_CLIP_M: Final = 3.0


class WorldSettings(BaseModel):
    """Physics and cameras."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_step_s: float = Field(0.0025, gt=0, le=0.01, description="Physics step; a whole number make 0.01 s.")
    grip_force_n: float = Field(20.0, gt=0, description="Force of each finger.")
    finger_friction: float = Field(1.5, gt=0, description="Sliding friction of the finger pads.")
    front_camera_position_m: tuple[float, float, float] = Field(
        (1.1, 0.07, 0.8), description="Front camera in the base frame."
    )
    front_camera_target_m: tuple[float, float, float] = Field(
        (0.50, 0.07, 0.10), description="Point that the front camera looks at."
    )
    front_camera_fovy_deg: float = Field(43.0, gt=5, lt=120, description="Vertical field of view.")
    wrist_camera_fovy_deg: float = Field(75.0, gt=5, lt=120, description="Vertical field of view.")
    largest_image_px: int = Field(640, ge=64, description="Longest side of an image that may be asked for.")


@dataclass(frozen=True)
class World:
    """The compiled model with the addresses that the simulator needs."""

    model: mujoco.MjModel
    arm: ArmModel
    arm_qpos: NDArray[np.intp]
    arm_dof: NDArray[np.intp]
    arm_actuator: NDArray[np.intp]
    finger_qpos: NDArray[np.intp]
    finger_actuator: NDArray[np.intp]
    cube_body: NDArray[np.intp]
    cube_geom: NDArray[np.intp]
    cube_qpos: NDArray[np.intp]
    """(CUBES, 7)"""
    cube_dof: NDArray[np.intp]
    """(CUBES, 6)"""
    tool_body: int
    hand_body: int
    bin_body: int
    mark_body: int
    obstacle_body: int
    obstacle_geom: int
    owner: NDArray[np.intp]
    """(number of geoms,), see ``Owner``."""
    _defaults: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def restore_defaults(self) -> None:
        """Undo every change that an episode made to the model."""
        self.restore_changes(self._defaults)

    def resize_cube(self, cube: int, size_m: float) -> None:
        """Give a cube other edges, of the same material; ``restore_defaults`` undoes it."""
        model, geom, body = self.model, self.cube_geom[cube], self.cube_body[cube]
        scale = size_m / CUBE_SIZE_M
        model.geom_size[geom] *= scale
        model.geom_rbound[geom] *= scale
        model.geom_aabb[geom, 3:] *= scale
        model.body_mass[body] *= scale**3
        model.body_inertia[body] *= scale**5

    def changes(self) -> dict[str, NDArray[np.float64]]:
        """Copies of all model values that episodes may change."""
        return {name: np.copy(getattr(self.model, name)) for name in CHANGEABLE}

    def restore_changes(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Put back what ``changes`` returned."""
        for name, value in values.items():
            getattr(self.model, name)[...] = value


class Owner:
    """To whom a geom belongs, for contacts. Cube i has the number ``CUBE + i``."""

    NOTHING: Final = 0
    ARM: Final = 1
    LEFT_FINGER: Final = 2
    RIGHT_FINGER: Final = 3
    TABLE: Final = 4
    BIN: Final = 5
    OBSTACLE: Final = 6
    CUBE: Final = 10


CHANGEABLE: Final = (
    "body_pos",
    "body_quat",
    "body_mass",
    "body_inertia",
    "body_gravcomp",
    "geom_size",
    "geom_pos",
    "geom_rbound",
    "geom_aabb",
    "geom_rgba",
    "geom_friction",
    "geom_priority",
    "actuator_gainprm",
    "actuator_biasprm",
    "actuator_forcerange",
    "light_diffuse",
    "light_ambient",
    "light_pos",
    "cam_pos",
    "cam_quat",
)


def build_world(settings: WorldSettings | None = None, urdf: Path | None = None) -> World:
    """Compile the URDF and everything around it.

    Raises:
        SalusError: the control period of 0.01 s is no whole number of physics steps.
    """
    settings = settings or WorldSettings()
    steps = 0.01 / settings.time_step_s
    if abs(steps - round(steps)) > 1e-9:
        raise SalusError(
            f"time_step_s is {settings.time_step_s}, but a whole number of steps must make 0.01 s; "
            "use 0.005 or 0.0025."
        )
    urdf = urdf or asset("urdf/salus_arm.urdf")
    arm = ArmModel.from_urdf(urdf)
    spec = mujoco.MjSpec.from_file(str(urdf))
    _physics(spec, settings)
    _arm(spec, arm, settings)
    _surroundings(spec)
    _cubes(spec)
    _cameras_and_lights(spec, settings)
    return _addresses(spec.compile(), arm)


def _physics(spec: mujoco.MjSpec, settings: WorldSettings) -> None:
    option = spec.option
    option.timestep = settings.time_step_s
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Elliptic cones with a high impedance ratio keep held cubes from creeping out of the fingers.
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    quality = spec.visual.quality
    quality.offsamples = 0
    quality.numslices, quality.numstacks, quality.numquads = 12, 6, 1
    global_ = getattr(spec.visual, "global_")  # noqa: B009
    global_.offwidth = global_.offheight = settings.largest_image_px
    spec.stat.extent = 1.0
    spec.visual.map.znear = _NEAR_CLIP_M
    spec.visual.map.zfar = _FAR_CLIP_M
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.2, 0.2, 0.2]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]


def _arm(spec: mujoco.MjSpec, arm: ArmModel, settings: WorldSettings) -> None:
    for geom in list(spec.geoms):
        if "_capsule_end" in geom.name:
            spec.delete(geom)
            continue
        if geom.name.endswith("_capsule"):
            geom.type = mujoco.mjtGeom.mjGEOM_CAPSULE
        geom.contype, geom.conaffinity = _ARM_BITS
        if geom.parent.name in _UNTOUCHABLE_LINKS:
            geom.contype = geom.conaffinity = 0
        if geom.parent.name in FINGERS:
            geom.condim = 4
            geom.friction = [settings.finger_friction, 0.02, 0.0001]
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    for i, name in enumerate(arm.joint_names):
        joint = spec.joint(name)
        joint.armature = _ARMATURE
        # The servo carries the arm's weight, so that its torque is what a real driver reports.
        joint.actgravcomp = True
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=_STIFFNESS[i], kv=_STIFFNESS[i] * DAMPING_TIME_S)
        limit = float(arm.effort_limit_nm[i])
        actuator.forcerange = [-limit, limit]
    for name in FINGER_JOINTS:
        joint = spec.joint(name)
        joint.armature = 0.1
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=_FINGER_STIFFNESS, kv=_FINGER_DAMPING)
        actuator.forcerange = [-settings.grip_force_n, settings.grip_force_n]
    # One motor drives both fingers.
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        name1=FINGER_JOINTS[0],
        name2=FINGER_JOINTS[1],
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        data=[0.0, 1.0, *([0.0] * 10)],
    )


def _surroundings(spec: mujoco.MjSpec) -> None:
    box, cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
    world = spec.worldbody
    table = world.add_body(name="table", pos=[0.45, 0.0, -0.02])
    _add(table, "table", box, [0.55, 0.6, 0.02], [0, 0, 0], [0.72, 0.66, 0.58, 1])
    bin_ = world.add_body(name="bin", pos=[0.5, 0.3, 0.0])
    half, wall, height = BIN_INNER_HALF_M, BIN_WALL_M / 2, BIN_HEIGHT_M / 2
    colour = [0.25, 0.25, 0.28, 1]
    _add(bin_, "bin_floor", box, [half, half, 0.002], [0, 0, 0.002], colour)
    for name, x, y in (("bin_far", 1, 0), ("bin_near", -1, 0), ("bin_left", 0, 1), ("bin_right", 0, -1)):
        size = [wall if x else half + 2 * wall, wall if y else half, height]
        _add(bin_, name, box, size, [x * (half + wall), y * (half + wall), height], colour)
    obstacle = world.add_body(name="obstacle", pos=list(PARKED_M))
    half_height = OBSTACLE_MAX_HEIGHT_M / 2
    size = [OBSTACLE_RADIUS_M, half_height, 0]
    _add(obstacle, "obstacle", cylinder, size, [0, 0, half_height], [0.85, 0.45, 0.1, 1])
    # Paint on the table: a site is seen and never touched.
    mark = world.add_body(name="mark", pos=list(PARKED_M))
    half_height = MARK_HEIGHT_M / 2
    mark.add_site(
        name="mark",
        type=cylinder,
        size=[MARK_RADIUS_M, half_height, 0],
        pos=[0, 0, half_height],
        rgba=[0.95, 0.95, 0.95, 1],
    )


def _cubes(spec: mujoco.MjSpec) -> None:
    half = CUBE_SIZE_M / 2
    for i in range(CUBES):
        body = spec.worldbody.add_body(name=f"cube_{i}", pos=[0.45, 0.1 * i - 0.1, half])
        body.add_freejoint(name=f"cube_{i}")
        geom = _add(body, f"cube_{i}", mujoco.mjtGeom.mjGEOM_BOX, [half, half, half], [0, 0, 0], [1, 1, 1, 1])
        geom.mass = CUBE_MASS_KG
        geom.condim = 4


def _add(
    body: mujoco.MjsBody,
    name: str,
    kind: mujoco.mjtGeom,
    size: list[float],
    pos: list[float],
    rgba: list[float],
) -> mujoco.MjsGeom:
    contype, conaffinity = _WORLD_BITS
    return body.add_geom(
        name=name, type=kind, size=size, pos=pos, rgba=rgba, contype=contype, conaffinity=conaffinity
    )


def _cameras_and_lights(spec: mujoco.MjSpec, settings: WorldSettings) -> None:
    spec.worldbody.add_camera(
        name=FRONT_CAMERA,
        pos=settings.front_camera_position_m,
        quat=_looking(np.array(settings.front_camera_position_m), np.array(settings.front_camera_target_m)),
        fovy=settings.front_camera_fovy_deg,
    )
    # MuJoCo's cameras look along -z with y up, optical frames along z with y down.
    spec.body("wrist_optical_frame").add_camera(
        name=WRIST_CAMERA, quat=[0, 1, 0, 0], fovy=settings.wrist_camera_fovy_deg
    )
    spec.worldbody.add_light(
        name="sun",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.6, 0.3, 2.0],
        dir=[-0.15, -0.15, -1.0],
        diffuse=[0.6, 0.6, 0.6],
        ambient=[0.0, 0.0, 0.0],
        specular=[0.1, 0.1, 0.1],
        castshadow=False,
    )


def _looking(position: Floats, target: Floats) -> Floats:
    """(4,) quaternion of a MuJoCo camera at a position that looks at a target, world up in the image."""
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(backward, right), backward], axis=1).ravel())
    return quaternion


def _addresses(model: mujoco.MjModel, arm: ArmModel) -> World:
    owner = np.full(model.ngeom, Owner.NOTHING, dtype=np.intp)
    names = {
        "table": Owner.TABLE,
        "bin": Owner.BIN,
        "obstacle": Owner.OBSTACLE,
        FINGERS[0]: Owner.LEFT_FINGER,
        FINGERS[1]: Owner.RIGHT_FINGER,
    }
    for geom in range(model.ngeom):
        name = model.body(model.geom_bodyid[geom]).name
        if name.startswith("cube_"):
            owner[geom] = Owner.CUBE + int(name[len("cube_") :])
        else:
            owner[geom] = names.get(name, Owner.ARM if name.startswith("panda_") else Owner.NOTHING)
    cube_qpos = np.array([model.joint(f"cube_{i}").qposadr[0] for i in range(CUBES)])
    cube_dof = np.array([model.joint(f"cube_{i}").dofadr[0] for i in range(CUBES)])
    world = World(
        model=model,
        arm=arm,
        arm_qpos=np.array([model.joint(name).qposadr[0] for name in arm.joint_names]),
        arm_dof=np.array([model.joint(name).dofadr[0] for name in arm.joint_names]),
        arm_actuator=np.array([model.actuator(name).id for name in arm.joint_names]),
        finger_qpos=np.array([model.joint(name).qposadr[0] for name in FINGER_JOINTS]),
        finger_actuator=np.array([model.actuator(name).id for name in FINGER_JOINTS]),
        cube_body=np.array([model.body(f"cube_{i}").id for i in range(CUBES)]),
        cube_geom=np.array([model.geom(f"cube_{i}").id for i in range(CUBES)]),
        cube_qpos=cube_qpos[:, None] + np.arange(7),
        cube_dof=cube_dof[:, None] + np.arange(6),
        tool_body=model.body(arm.tool_frame).id,
        hand_body=model.body(HAND).id,
        bin_body=model.body("bin").id,
        mark_body=model.body("mark").id,
        obstacle_body=model.body("obstacle").id,
        obstacle_geom=model.geom("obstacle").id,
        owner=owner,
    )
    world._defaults.update(world.changes())
    return world
