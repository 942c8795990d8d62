"""Who is who, and whether the node tells the truth about it.

`verification` is what applications use; `trust` keeps what is known of people's root
keys; `sas` compares short strings with another device; `rules` holds back what must
not be sent; `audit` holds what the node shows against what MLS and people's own logs
say, and raises alarms.
"""
