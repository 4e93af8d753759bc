"""What the motors carry: gravity against MuJoCo's, and a force that is put on the tool."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from made_up_episodes import HOME_RAD

from salus_ros.assets import asset
from salus_ros.monitor.body import Body


@pytest.fixture(scope="module")
def body() -> Body:
    return Body.from_urdf(asset("urdf/salus_arm.urdf"))


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.4])
def test_the_holding_torque_is_that_of_a_physics_engine(body: Body, offset: float) -> None:
    model = mujoco.MjModel.from_xml_path(str(asset("urdf/salus_arm.urdf")))
    data = mujoco.MjData(model)
    names = body.model.joint_names
    address = [model.joint(name).qposadr[0] for name in names]
    data.qpos[address] = HOME_RAD + offset
    mujoco.mj_forward(model, data)
    expected = data.qfrc_bias[[model.joint(name).dofadr[0] for name in names]]
    torque = body.weight.holding_torque(body.links(HOME_RAD + offset))
    np.testing.assert_allclose(torque, expected, atol=0.05)


def test_a_force_at_the_tool_comes_back(body: Body) -> None:
    links = body.links(HOME_RAD)
    step = 1e-6
    jacobian = np.stack(
        [(body.links(HOME_RAD + step * axis)[-1, :3, 3] - links[-1, :3, 3]) / step for axis in np.eye(7)]
    )
    force = np.array([1.0, -2.0, 3.0])
    effort = body.weight.holding_torque(links) + jacobian @ force
    found, unexplained = body.weight.tool_force(links, effort)
    np.testing.assert_allclose(found, force, atol=1e-3)
    assert unexplained < 1e-3
    _, odd = body.weight.tool_force(links, effort + np.array([0, 0, 0, 0, 0, 0, 5.0]))
    assert odd > 0.5, "a torque about the flange's own axis is no force at the tool"
