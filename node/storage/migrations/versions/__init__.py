"""One file for each change, in one line of descent."""
