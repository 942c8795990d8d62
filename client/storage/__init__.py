"""What lies on this device's disk: the encrypted database and the ways to read it.

`store` opens it and runs transactions, `schema` are its tables, `keyfile` wraps its
key by the password. `timeline` reads and writes what people look at, `heads` the
chains of the logs.
"""
