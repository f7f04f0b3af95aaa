"""What records: the tracer and its events, spans, functions and logs; recorders, flight files, recovery."""
