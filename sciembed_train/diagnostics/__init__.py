"""What this machine has, what would run on it, and what would not and why."""
