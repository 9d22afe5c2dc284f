"""Train folds: settings, the loop and its step, checkpoints, devices, several processes."""
