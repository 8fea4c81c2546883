"""From the user's TOML to the IR: load, structure, check."""
