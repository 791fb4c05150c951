"""Which sentences of co-cited papers are similar."""
