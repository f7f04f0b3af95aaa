"""What works on a living channel: attaching to it, merging its streams, mapping it, waiting for data."""
