"""The MuJoCo world, tasks, disturbances, scripted experts and ground-truth events."""
