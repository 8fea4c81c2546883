trace_context()
