"""What reads the ring buffers of the Linux kernel (tracefs)."""
