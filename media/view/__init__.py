"""Pictures in a terminal: kitty graphics, sixel, half blocks, braille."""
