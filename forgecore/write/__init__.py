"""From text to disk: format, stage, publish; what is ours is remembered in forge.lock."""
