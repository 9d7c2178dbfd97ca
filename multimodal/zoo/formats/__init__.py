"""Foreign checkpoints: one converter a format, dict in, dict out."""
