"""The ROS 2 package ``salus_ros`` (ament_python)."""

from pathlib import Path

from setuptools import find_packages, setup

NODES = (
    "policy",
    "monitor",
    "intervention",
    "deadman",
    "sim",
    "recorder",
    "console",
    "markers",
    "gazebo_events",
    "gazebo_points",
    "controller_stop",
    "gripper",
)
SHARED = (
    "launch",
    "config",
    "config/robots",
    "config/mixtures",
    "config/sros2",
    "config/training",
    "urdf",
    "worlds",
    "models/tinyvla-small",
    "models/monitor",
)
MESSAGES = ("salus_msgs/msg",)


def share(folder: str) -> tuple[str, list[str]]:
    """One folder of files that are not code, as setuptools wants it."""
    files = sorted(str(path) for path in Path(folder).glob("*") if path.is_file())
    return f"share/salus_ros/{folder}", files


setup(
    name="salus_ros",
    version="0.1.0",
    description="Foresees failures of a robot that follows a learned policy, and acts before they happen.",
    license="Apache-2.0",
    maintainer="SALUS maintainers",
    maintainer_email="maintainers@salus.invalid",
    packages=find_packages(include=["salus_ros", "salus_ros.*"]),
    package_data={
        "salus_ros": ["py.typed", "evaluation/templates/*", "viewer/templates/*", "console/page/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/salus_ros"]),
        ("share/salus_ros", ["package.xml"]),
        *(share(folder) for folder in (*SHARED, *MESSAGES)),
    ],
    python_requires=">=3.10",
    # colcon looks at "test" to know what `colcon test` runs; without it, it runs nothing and says OK.
    extras_require={"ray": ["ray==2.60.0"], "test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "salus = salus_ros.cli.main:main",
            *(f"{node}_node = salus_ros.nodes.{node}_node:main" for node in NODES),
        ],
        "salus_ros.policies": ["expert = salus_ros.expert_policy:load"],
    },
)
