"""Episodes on disk, their labels, and rosbags."""
