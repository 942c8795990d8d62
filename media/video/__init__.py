"""Pictures on their way out: cameras, screens, files."""
