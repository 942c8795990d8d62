"""The media process: commands to legs, devices and cameras."""
