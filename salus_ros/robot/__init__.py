"""Joints and limits read from the URDF; forward and inverse kinematics."""
