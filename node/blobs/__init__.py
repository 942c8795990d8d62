"""Blobs: encrypted files, kept for accounts and fetched from other nodes.

keeper    uploads in parts, what is here whole, quota, retention
rows      what the database knows of them
source    bytes to read, also while they arrive
fetch     a blob of another node, fetched once however many ask for it
"""
