"""Numbered changes of the schema; inside the package, so that a wheel has them."""
