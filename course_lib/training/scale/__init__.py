"""What exists for size: several processes, sharding, recomputation, resumable state, cost."""
