"""The node's supervisor: starts the manager and the agent, and starts them again when they end."""
