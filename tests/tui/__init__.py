"""Tests of the terminal client: what a person sees and what their keys do."""
