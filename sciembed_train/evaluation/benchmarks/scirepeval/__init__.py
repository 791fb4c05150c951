"""SciRepEval: many tasks, scored by vectors of the format that each is for."""
