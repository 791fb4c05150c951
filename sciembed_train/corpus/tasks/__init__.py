"""SciRepEval's tasks: their list, records and examples."""
