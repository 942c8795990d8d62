"""Keys of people and devices: this device's own (`me`, `packages`), the others'
(`contacts`)."""
