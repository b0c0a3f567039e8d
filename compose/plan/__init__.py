"""What a change would do: pure functions from what should be and what is to steps with their reasons.

`plan_up` compares a project's desired objects with the manager's; `Observed` folds watch events into the project's
services and tasks; `progress` tells from them how far each container is, and whether it can still get there. Nothing
here talks to anybody: `up`, `plan` and `--dry-run` are three readers of the same answer.
"""
