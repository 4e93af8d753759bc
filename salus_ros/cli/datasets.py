"""Whether stores are of the robot and the policy that they are used for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from salus_ros.assets import asset
from salus_ros.data.store import Store
from salus_ros.errors import SalusError
from salus_ros.robot.model import ArmModel


def check_robot(stores: Sequence[Path], urdf: str) -> None:
    """Refuses stores of another arm, also of one with as many joints.

    Args:
        stores: what is to be read.
        urdf: description of the arm that is expected.

    Raises:
        SalusError: a store is none, or of an arm whose joints have other names.
    """
    joints = ArmModel.from_urdf(asset(urdf)).joint_names
    for path in stores:
        settings = Store.open(path).settings
        if settings.joint_names and settings.joint_names != joints:
            raise SalusError(
                f"{path} holds episodes of {settings.robot or 'a robot'} with the joints "
                f"{', '.join(settings.joint_names)}, and {urdf} has {', '.join(joints)}; give episodes of "
                "this robot."
            )


def foreign_policies(stores: Sequence[Path], known: Iterable[str]) -> list[str]:
    """Hashes of the policies that acted in these stores and are not known."""
    return sorted({Store.open(path).settings.policy_hash for path in stores} - {"", *known})
