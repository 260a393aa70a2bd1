"""For large trainings: several processes, sharding, recomputation, resumable state, cost."""
