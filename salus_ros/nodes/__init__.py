"""The ROS 2 graph: one file a node, and what nodes share. The only place that imports rclpy."""
