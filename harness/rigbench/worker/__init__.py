"""The child process: one model, one load loop, JSON lines out. Standard library plus the engine, nothing else."""
