"""Full texts: records of every format, their markup, and documents of a corpus."""
