"""The ROS 2 package ``salus_ros`` (ament_python)."""

from glob import glob

from setuptools import find_packages, setup

NODES = ("policy", "monitor", "intervention", "deadman", "sim", "recorder")

setup(
    name="salus_ros",
    version="0.1.0",
    description="Foresees failures of a robot that follows a learned policy, and intervenes before they happen.",
    license="Apache-2.0",
    maintainer="SALUS maintainers",
    maintainer_email="maintainers@salus.invalid",
    packages=find_packages(include=["salus_ros", "salus_ros.*"]),
    package_data={"salus_ros": ["py.typed", "evaluation/templates/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/salus_ros"]),
        ("share/salus_ros", ["package.xml"]),
        ("share/salus_ros/launch", glob("launch/*.launch.py")),
        ("share/salus_ros/config", glob("config/*.yaml")),
        ("share/salus_ros/config/robots", glob("config/robots/*.yaml")),
        ("share/salus_ros/urdf", glob("urdf/*")),
        ("share/salus_ros/worlds", glob("worlds/*")),
        ("share/salus_ros/models/tinyvla-small", glob("models/tinyvla-small/*")),
        ("share/salus_ros/models/monitor", glob("models/monitor/*")),
        ("share/salus_ros/salus_msgs/msg", glob("salus_msgs/msg/*")),
    ],
    python_requires=">=3.10",
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "salus = salus_ros.cli.main:main",
            *(f"{node}_node = salus_ros.nodes.{node}_node:main" for node in NODES),
        ],
    },
)
