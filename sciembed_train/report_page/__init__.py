"""Self-contained HTML pages: the frame of a page, its tables and its charts."""
