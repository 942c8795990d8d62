"""Measurements; see README.md. No part of the program."""
