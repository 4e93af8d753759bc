"""The gate: modes, path following, limits and watchdogs that turn policy outputs into commands."""
