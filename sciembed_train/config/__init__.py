"""Settings of recipes and command lines, and messages about them."""
