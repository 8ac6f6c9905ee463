"""What stands behind the operator's commands."""
