"""Pages that show episodes: one to keep, and one to mark events on."""
