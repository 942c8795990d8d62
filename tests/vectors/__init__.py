"""Published test vectors, and what they need that the program has not."""
