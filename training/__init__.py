"""Corpora to batches to checkpoints, and what is done with a trained model."""
