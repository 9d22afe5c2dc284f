"""A run's folder: its layout, what every fold leaves behind, and the folds pooled."""
