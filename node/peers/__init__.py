"""Other nodes: the ports that `federation` needs, over this node's database."""
