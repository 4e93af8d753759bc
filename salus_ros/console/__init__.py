"""The operator console: what it shows, who may use it, the web page. ROS is in ``nodes/console_node.py``."""
