"""What reads a trace on disk: its records, as text, as columns, exported to other formats."""
