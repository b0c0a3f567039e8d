"""Desired state and decisions: store, control API, orchestration, scheduling, allocation, dispatch."""
