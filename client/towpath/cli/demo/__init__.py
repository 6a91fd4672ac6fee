"""`towpath demo`: a scheduler, a worker and the main job, end to end."""
