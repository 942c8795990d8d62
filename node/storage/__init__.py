"""What a node keeps on disk: tables, migrations, one writer and some readers."""
