"""Trains a draft model as the C# trainer does: same job, same data order, same checkpoints, same lines on stdout."""
