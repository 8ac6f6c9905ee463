"""What workers claim: a task's life, its lease, and what becomes of it when its worker dies."""
