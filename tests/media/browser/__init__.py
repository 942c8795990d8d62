"""A browser at the other end of a call: a page, and headless Chromium that shows it."""
