"""Whole stories: real node processes, real terminals, real certificates."""
