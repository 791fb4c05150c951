"""``report.html`` of a corpus: what was read, what it holds, what was left out and why."""
