"""Pages that need nothing else to be read: the frame of a page, its tables and its charts."""
