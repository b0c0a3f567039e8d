"""Control loops' pure cores: each looks at a service and its tasks and returns what to do, with reasons."""
