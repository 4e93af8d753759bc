"""Gazebo's world and MuJoCo's are one world."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np
import pytest
from sdf_geometry import GAZEBO_TO_OPTICAL, matrix
from sdf_parser import complaints, needs_parser

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.sim.gazebo import DEFAULT_SEED, front_camera_pose, place, scene
from salus_ros.sim.simulation import Simulation

MODELS = ("table", "bin", "obstacle", "cube_0", "cube_1", "cube_2")


def model(world: ElementTree.Element, name: str) -> ElementTree.Element:
    found = world.find(f"model[@name='{name}']")
    assert found is not None, f"worlds/salus.sdf has no model {name}"
    return found


def text(element: ElementTree.Element, path: str) -> str:
    found = element.findtext(path)
    assert found is not None, f"{ElementTree.tostring(element, encoding='unicode')[:80]} has no {path}"
    return found


def numbers(element: ElementTree.Element, path: str) -> np.ndarray:
    return np.array([float(word) for word in text(element, path).split()])


def full_size(geometry: ElementTree.Element) -> tuple[int, list[float]]:
    """Kind and sizes as MuJoCo has them."""
    if geometry.find("box") is not None:
        return int(mujoco.mjtGeom.mjGEOM_BOX), [*numbers(geometry, "box/size") / 2]
    radius, length = numbers(geometry, "cylinder/radius")[0], numbers(geometry, "cylinder/length")[0]
    return int(mujoco.mjtGeom.mjGEOM_CYLINDER), [radius, length / 2, 0.0]


@needs_parser
def test_gazebos_own_parser_finds_nothing_to_complain_about() -> None:
    assert complaints(asset("worlds/salus.sdf")) == ""


@needs_parser
def test_gazebos_own_parser_is_asked_indeed(tmp_path: Path) -> None:
    twice = asset("worlds/salus.sdf").read_text().replace('name="cube_1"', 'name="cube_0"')
    (tmp_path / "twice.sdf").write_text(twice)
    assert "cube_0" in complaints(tmp_path / "twice.sdf")


def test_the_world_shows_the_scene_of_its_seed() -> None:
    sdf = asset("worlds/salus.sdf").read_text()
    shown, placed = (
        ElementTree.fromstring(text)[0] for text in (sdf, place(sdf, scene(DEFAULT_SEED).layout))
    )
    for name in (*MODELS, "mark"):
        assert text(model(shown, name), "pose") == text(model(placed, name), "pose"), (
            f"{name} stands elsewhere than seed {DEFAULT_SEED} puts it: tasks changed, so take the poses "
            "of salus_ros.sim.gazebo.place(sdf, scene(DEFAULT_SEED).layout) over into worlds/salus.sdf"
        )


@pytest.mark.parametrize(("seed", "task"), [(0, "bin"), (DEFAULT_SEED, "bin"), (17, "stack"), (3, "push")])
def test_every_pose_is_that_of_the_mujoco_scene(simulation: Simulation, seed: int, task: str) -> None:
    drawn = simulation.reset(seed, task)
    layout = scene(seed, task).layout
    placed = ElementTree.fromstring(place(asset("worlds/salus.sdf").read_text(), layout))[0]
    assert layout.instruction == drawn.instruction
    for name in (*MODELS, "mark"):
        body = simulation._world.model.body(name).id
        pose = matrix(text(model(placed, name), "pose"))
        assert pose[:3, 3] == pytest.approx(simulation._data.xpos[body], abs=1e-7), name
        assert pose[:3, :3] == pytest.approx(simulation._data.xmat[body].reshape(3, 3), abs=1e-7), name
    simulation.reset(DEFAULT_SEED)


def test_every_shape_has_the_size_place_and_colour_of_its_mujoco_twin(
    world: ElementTree.Element, simulation: Simulation
) -> None:
    mj = simulation._world.model
    for name in MODELS:
        element = model(world, name)
        geoms = {mj.geom(g).name: g for g in range(mj.ngeom) if mj.body(mj.geom_bodyid[g]).name == name}
        shapes = {shape.get("name", ""): shape for shape in element.iterfind("link/collision")}
        assert set(shapes) == set(geoms), f"{name} has other shapes than in MuJoCo"
        for shape_name, shape in shapes.items():
            visual = element.find(f"link/visual[@name='{shape_name}_visual']")
            assert visual is not None, f"{shape_name} cannot be seen"
            for part in (shape, visual):
                geometry = part.find("geometry")
                assert geometry is not None
                kind, size = full_size(geometry)
                assert kind == mj.geom_type[geoms[shape_name]], shape_name
                assert size == pytest.approx(mj.geom_size[geoms[shape_name]]), shape_name
                offset = matrix(part.findtext("pose"))
                assert offset[:3, 3] == pytest.approx(mj.geom_pos[geoms[shape_name]]), shape_name
                assert offset[:3, :3] == pytest.approx(np.eye(3)), shape_name
            colour = numbers(visual, "material/diffuse")
            assert colour == pytest.approx(mj.geom_rgba[geoms[shape_name]], abs=1e-6), shape_name


def test_the_mark_is_seen_as_in_mujoco_and_cannot_be_touched(
    world: ElementTree.Element, simulation: Simulation
) -> None:
    link = model(world, "mark").find("link")
    site = simulation._world.model.site("mark")
    assert link is not None and link.find("collision") is None
    visual = link.find("visual")
    assert visual is not None
    geometry = visual.find("geometry")
    assert geometry is not None
    kind, size = full_size(geometry)
    assert kind == site.type[0]
    assert size[:2] == pytest.approx(site.size[:2])
    assert matrix(visual.findtext("pose"))[:3, 3] == pytest.approx(site.pos)
    assert numbers(visual, "material/diffuse") == pytest.approx(site.rgba)


def test_cubes_have_the_mass_and_inertia_of_their_mujoco_twins(
    world: ElementTree.Element, simulation: Simulation
) -> None:
    mj = simulation._world.model
    for i in range(3):
        inertial = model(world, f"cube_{i}").find("link/inertial")
        assert inertial is not None
        body = mj.body(f"cube_{i}").id
        assert numbers(inertial, "mass")[0] == pytest.approx(mj.body_mass[body])
        given = [numbers(inertial, f"inertia/{axis}")[0] for axis in ("ixx", "iyy", "izz")]
        assert given == pytest.approx(mj.body_inertia[body])


def test_friction_between_two_things_is_the_same(world: ElementTree.Element, simulation: Simulation) -> None:
    """MuJoCo takes the higher of two frictions, DART the lower."""
    mj = simulation._world.model

    def in_gazebo(name: str) -> float:
        return numbers(model(world, name), "link/collision/surface/friction/ode/mu")[0]

    def in_mujoco(name: str) -> float:
        return float(mj.geom_friction[mj.geom(name).id][0])

    for fixed in ("table", "obstacle"):
        assert min(in_gazebo("cube_0"), in_gazebo(fixed)) == pytest.approx(
            max(in_mujoco("cube_0"), in_mujoco(fixed))
        )
    finger = simulation.settings.world.finger_friction
    assert min(in_gazebo("cube_0"), finger) == pytest.approx(max(in_mujoco("cube_0"), finger))


def test_what_is_fixed_in_mujoco_is_static_and_only_that(
    world: ElementTree.Element, simulation: Simulation
) -> None:
    for name in MODELS:
        fixed = simulation._world.model.body(name).dofnum[0] == 0
        assert (model(world, name).findtext("static") == "true") == fixed, name


def test_gravity_and_time_step_are_those_of_mujoco(
    world: ElementTree.Element, simulation: Simulation
) -> None:
    assert numbers(world, "gravity") == pytest.approx(simulation._world.model.opt.gravity)
    step_s = numbers(world, "physics/max_step_size")[0]
    assert step_s == pytest.approx(simulation.settings.world.time_step_s)


def test_the_front_cameras_see_what_mujocos_camera_sees(
    world: ElementTree.Element, simulation: Simulation
) -> None:
    camera = model(world, "front_camera")
    pose = matrix(text(camera, "pose")) @ GAZEBO_TO_OPTICAL
    assert pose == pytest.approx(simulation.camera_pose("front"), abs=1e-6)
    assert front_camera_pose(simulation.settings.world) == pytest.approx(pose, abs=1e-6)
    cloud = simulation.settings.cloud
    sizes = {
        "front": (simulation.settings.image_size_px,) * 2,
        "front_depth": (cloud.width_px, cloud.height_px),
    }
    fovy_rad = np.deg2rad(simulation.camera_fovy_deg("front"))
    for name, (width, height) in sizes.items():
        sensor = camera.find(f"link/sensor[@name='{name}']")
        assert sensor is not None
        assert [int(text(sensor, f"camera/image/{side}")) for side in ("width", "height")] == [width, height]
        expected = 2 * np.arctan(np.tan(fovy_rad / 2) * width / height)
        assert numbers(sensor, "camera/horizontal_fov")[0] == pytest.approx(expected, abs=1e-6), name


def test_a_text_that_is_not_the_world_is_refused_with_one_sentence() -> None:
    layout = scene(DEFAULT_SEED).layout
    with pytest.raises(SalusError, match=r"no valid XML .*; expected worlds/salus\.sdf"):
        place("<sdf>", layout)
    with pytest.raises(SalusError, match=r"has no model bin with a pose; expected worlds/salus\.sdf"):
        place("<sdf version='1.9'><world name='other'/></sdf>", layout)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SalusError, match="The seed is -1"):
        scene(-1)
