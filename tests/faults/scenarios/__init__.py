"""What the bench can do to the service: one module per promise, each with `run(size, broken)`, which gives figures."""
