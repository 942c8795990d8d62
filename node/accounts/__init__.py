"""Accounts of this node: their logs, devices, key packages, invites and passwords."""
