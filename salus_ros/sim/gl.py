"""See ``salus_ros.robot.gl``."""

from salus_ros.robot.gl import BACKEND as BACKEND
