"""The commands of `telex` beside the chat, a file for each subject.

They load with `tui.cli`, so they import click and nothing heavy; what a command
needs it imports when it runs.
"""
